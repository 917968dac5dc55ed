// The most multiply-adds of uint8 with int8 a second that one thread of this processor does: nothing but the
// instruction, on registers. Prints a line for each instruction set that the native engine has kernels for here:
// number, rate.
//
// engine_peak.py builds it together with the engine's sources.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>

#include "instruction_sets.h"
#include "kernels/x86/amx_tiles.h"

using namespace resparse;

namespace {

constexpr int kLoops = 1 << 16, kRuns = 50;

// Multiply-adds a second of `loop`, which does so many of them.
template <typename Loop>
double best_rate(double multiply_adds, const Loop& loop) {
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    const auto began = std::chrono::steady_clock::now();
    loop();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
    best = std::max(best, multiply_adds / taken.count());
  }
  return best;
}

#ifdef RESPARSE_X86
// Sixteen sums, so that none waits for itself.
double avx512() {
  return best_rate(16.0 * 64 * kLoops, [] {
    for (int i = 0; i < kLoops; ++i)
      asm volatile(
          "vpdpbusd %%zmm30, %%zmm31, %%zmm0\n vpdpbusd %%zmm30, %%zmm31, %%zmm1\n"
          "vpdpbusd %%zmm30, %%zmm31, %%zmm2\n vpdpbusd %%zmm30, %%zmm31, %%zmm3\n"
          "vpdpbusd %%zmm30, %%zmm31, %%zmm4\n vpdpbusd %%zmm30, %%zmm31, %%zmm5\n"
          "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n vpdpbusd %%zmm30, %%zmm31, %%zmm7\n"
          "vpdpbusd %%zmm30, %%zmm31, %%zmm8\n vpdpbusd %%zmm30, %%zmm31, %%zmm9\n"
          "vpdpbusd %%zmm30, %%zmm31, %%zmm10\n vpdpbusd %%zmm30, %%zmm31, %%zmm11\n"
          "vpdpbusd %%zmm30, %%zmm31, %%zmm12\n vpdpbusd %%zmm30, %%zmm31, %%zmm13\n"
          "vpdpbusd %%zmm30, %%zmm31, %%zmm14\n vpdpbusd %%zmm30, %%zmm31, %%zmm15\n" ::
              : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                "xmm12", "xmm13", "xmm14", "xmm15");
  });
}
#endif

#ifdef RESPARSE_ARM_DOT
// The same; the compiler need not know the instruction, so that no function needs to be for another processor.
#define RESPARSE_ONE(what, sums) #what " v" #sums ".4s, v30.16b, v31.16b\n"
#define RESPARSE_FOUR(what, a, b, c, d) \
  RESPARSE_ONE(what, a) RESPARSE_ONE(what, b) RESPARSE_ONE(what, c) RESPARSE_ONE(what, d)
#define RESPARSE_SIXTEEN(extension, what)                                           \
  asm volatile(".arch armv8.2-a+" extension "\n"                                    \
               RESPARSE_FOUR(what, 0, 1, 2, 3) RESPARSE_FOUR(what, 4, 5, 6, 7)      \
               RESPARSE_FOUR(what, 16, 17, 18, 19) RESPARSE_FOUR(what, 20, 21, 22, 23) :: \
                   : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", \
                     "v21", "v22", "v23")

double dotprod() {
  return best_rate(16.0 * 16 * kLoops, [] {
    for (int i = 0; i < kLoops; ++i) RESPARSE_SIXTEEN("dotprod", sdot);
  });
}

double i8mm() {
  return best_rate(16.0 * 32 * kLoops, [] {
    for (int i = 0; i < kLoops; ++i) RESPARSE_SIXTEEN("i8mm", usmmla);
  });
}
#endif

#ifdef RESPARSE_AMX
double amx() {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) {
    shapes.row_bytes[i] = 64;
    shapes.rows[i] = 16;
  }
  tiles::configure(shapes);
  const double rate = best_rate(4.0 * 16 * 16 * 64 * kLoops, [] {
    for (int i = 0; i < kLoops; ++i) {
      tiles::add_products<0, 4, 6>();
      tiles::add_products<1, 5, 6>();
      tiles::add_products<2, 4, 7>();
      tiles::add_products<3, 5, 7>();
    }
  });
  tiles::release();
  return rate;
}
#endif

}  // namespace

int main() {
#ifdef RESPARSE_X86
  if (usable_isas() & kAvx512) std::printf("%u %.6e\n", kAvx512, avx512());
#endif
#ifdef RESPARSE_ARM_DOT
  if (usable_isas() & kDotProd) std::printf("%u %.6e\n", kDotProd, dotprod());
  if (usable_isas() & kI8mm) std::printf("%u %.6e\n", kI8mm, i8mm());
#endif
#ifdef RESPARSE_AMX
  if (usable_isas() & kAmx) std::printf("%u %.6e\n", kAmx, amx());
#endif
  return 0;
}
