// The most multiply-adds of uint8 with int8 a second that this processor does for a while, on some threads: nothing but
// the instruction, on registers. First prints the numbers of the instruction sets that the native engine has kernels for
// here, in a line. Then for every line "instruction-set threads seconds" that it reads, it prints the rate.
//
// engine_peak.py builds it together with the engine's sources.

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <thread>
#include <vector>

#include "instruction_sets.h"
#include "kernels/x86/amx_tiles.h"
#include "timing.h"

using namespace resparse;

namespace {

constexpr int kLoops = 1 << 12;

// What one thread does: multiply-adds of so many loops, and what goes before and after.
struct Instruction {
  uint32_t isa;
  double multiply_adds;  // of a loop
  void (*loops)();       // kLoops of them
  void (*begin)();
  void (*end)();
};

void nothing() {}

// Multiply-adds a second of `threads` threads that begin together, and all go on until the time is over.
double rate(const Instruction& instruction, uint32_t threads, double seconds) {
  std::atomic<uint32_t> ready{0};
  std::atomic<bool> go{false};
  std::vector<double> rates(threads);
  const auto work = [&](uint32_t thread) {
    instruction.begin();
    ++ready;
    while (!go) std::this_thread::yield();
    const double began = now(threads);
    double loops = 0, taken = 0;
    for (; taken < seconds; ++loops) {
      instruction.loops();
      taken = now(threads) - began;
    }
    rates[thread] = instruction.multiply_adds * kLoops * loops / taken;
    instruction.end();
  };
  std::vector<std::thread> others;
  for (uint32_t i = 1; i < threads; ++i) others.emplace_back(work, i);
  while (ready + 1 < threads) std::this_thread::yield();
  go = true;
  work(0);
  for (std::thread& other : others) other.join();
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

#ifdef RESPARSE_X86
// Sixteen sums, so that none waits for itself.
void avx512() {
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

void dotprod() {
  for (int i = 0; i < kLoops; ++i) RESPARSE_SIXTEEN("dotprod", sdot);
}

void i8mm() {
  for (int i = 0; i < kLoops; ++i) RESPARSE_SIXTEEN("i8mm", usmmla);
}
#endif

#ifdef RESPARSE_AMX
void configure() {
  TileShapes shapes;
  for (int i = 0; i < 8; ++i) {
    shapes.row_bytes[i] = 64;
    shapes.rows[i] = 16;
  }
  tiles::configure(shapes);
}

void release() { tiles::release(); }

// Four sums, which is as many as the kernels have; a product waits 52 cycles for the one before, four take 64.
void amx() {
  for (int i = 0; i < kLoops; ++i) {
    tiles::add_products<0, 4, 6>();
    tiles::add_products<1, 5, 6>();
    tiles::add_products<2, 4, 7>();
    tiles::add_products<3, 5, 7>();
  }
}
#endif

const Instruction kInstructions[] = {
#ifdef RESPARSE_X86
    {kAvx512, 16.0 * 64, avx512, nothing, nothing},
#endif
#ifdef RESPARSE_ARM_DOT
    {kDotProd, 16.0 * 16, dotprod, nothing, nothing},
    {kI8mm, 16.0 * 32, i8mm, nothing, nothing},
#endif
#ifdef RESPARSE_AMX
    {kAmx, 4.0 * 16 * 16 * 64, amx, configure, release},
#endif
    {kPortable, 0, nothing, nothing, nothing},
};

}  // namespace

int main() {
  for (const Instruction& one : kInstructions)
    if (one.multiply_adds > 0 && (usable_isas() & one.isa) != 0) std::printf("%u ", one.isa);
  std::printf("\n");
  std::fflush(stdout);
  uint32_t isa, threads;
  double seconds;
  while (std::scanf("%u %u %lf", &isa, &threads, &seconds) == 3) {
    for (const Instruction& one : kInstructions)
      if (one.isa == isa && one.multiply_adds > 0) std::printf("%.6e\n", rate(one, threads, seconds));
    std::fflush(stdout);
  }
  return 0;
}
