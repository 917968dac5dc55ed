#include "timing.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <vector>

#include "instruction_sets.h"
#include "products.h"

namespace resparse {
namespace {

constexpr Grid kGrid{1, 128, 0, 255};

// A matrix with scales of 1, and biases and offsets of 0.
OpenLinear linear_of(uint32_t isa, const TimedMatrix& matrix, const Buffer<float>& ones, const Buffer<float>& zeros,
                     const Buffer<int32_t>& offsets) {
  if (!reads_format(isa, matrix.format)) throw Error("weights in a form that its kernels do not read");
  OpenLinear linear;
  linear.weights = view(matrix.format, matrix.packed, matrix.size, matrix.rows, matrix.columns);
  linear.input = kGrid;
  linear.scales = ones.data();
  linear.biases = zeros.data();
  linear.offsets = offsets.data();
  return linear;
}

void leave_sums(const Sums&, uint32_t, const float*, const float*, Grid, uint32_t, Grid, uint8_t*, size_t) {}

}  // namespace

double now(uint32_t threads) {
#ifdef CLOCK_THREAD_CPUTIME_ID
  timespec time;
  if (threads == 1 && clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0)
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double time_products(uint32_t isa, const TimedMatrix* matrices, uint32_t count, uint32_t tokens, uint32_t threads,
                     uint32_t runs, bool sums_only) {
  if (count == 0 || tokens == 0 || runs == 0) throw Error("nothing to be timed");
  threads = std::min(std::max(threads, 1u), Pool::instance().cores());
  Kernels kernels = kernels_of(isa);
  if (sums_only) kernels.requantize = leave_sums;
  InputSizes largest;
  uint32_t rows = 0;
  for (uint32_t i = 0; i < count; ++i) {
    largest.columns = std::max(largest.columns, matrices[i].columns);
    rows = std::max(rows, matrices[i].rows);
  }
  const size_t padded = round_up(rows, kPanelRows), stride = round_up(largest.columns, kColumnPad);
  const size_t out_stride = round_up(rows, kColumnPad);
  Buffer<float> ones(padded), zeros(padded);
  Buffer<int32_t> offsets(padded);
  std::fill_n(ones.data(), padded, 1.0f);
  Buffer<uint8_t> x(stride * tokens), out(out_stride * tokens);
  for (size_t i = 0; i < stride * tokens; ++i) x[i] = static_cast<uint8_t>(i * 151);  // as much power as any numbers

  std::vector<OpenLinear> linears;
  for (uint32_t i = 0; i < count; ++i) linears.push_back(linear_of(isa, matrices[i], ones, zeros, offsets));
  const int64_t starts[] = {0, tokens};
  const Products products(kernels, Tokens{starts, 1}, threads, largest);
  double began = 0, ended = 0;
  Pool::instance().run(threads, [&](Team::Member& team, uint32_t thread) {
    const KernelScope scope(kernels);
    for (uint32_t run = 0; run <= runs; ++run) {
      if (thread == 0 && run == 1) began = now(threads);
      for (uint32_t i = 0; i < count; ++i) {
        const IntegerProduct product{{linears[i], x.data(), stride, tokens},
                                     {matrices[i].activation, kGrid, out.data(), out_stride}};
        products.to_integers(team, &product, 1);
      }
    }
    if (thread == 0) ended = now(threads);
  });
  return (ended - began) / runs;
}

}  // namespace resparse
