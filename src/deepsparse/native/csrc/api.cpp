// The functions of engine.h: arguments checked, exceptions turned into messages.

#include <algorithm>

#include "encoder.h"
#include "engine.h"
#include "guarded.h"
#include "instruction_sets.h"
#include "kernels/bfloats.h"
#include "model.h"
#include "timing.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace resparse {
namespace {

struct Product {
  const Kernels& kernels;
  PackedMatrix weights;
  const uint8_t* x;
  size_t stride;
  uint32_t tokens;

  // Calls take(panel, first token, tokens, sums) for every call of `multiply`.
  template <typename Take>
  void run(const Take& take) const {
    const KernelScope scope(kernels);
    Buffer<uint8_t> memory(ArrangedInputs::size(tokens, weights.columns));
    ArrangedInputs inputs(kernels, memory.data());
    inputs.set(weights, x, stride, tokens);
    Sums sums;
    for (uint32_t panel = 0; panel < panels_of(weights.rows); ++panel)
      for (uint32_t token = 0, count; token < tokens; token += count) {
        count = kernels.next_tokens(tokens - token);
        kernels.multiply(weights, panel, inputs.at(token), stride, count, nullptr, sums);
        take(panel, token, count, sums);
      }
  }
};

PackedMatrix checked_view(uint32_t isa, uint32_t format, const uint8_t* packed, int64_t size, uint32_t rows,
                          uint32_t columns) {
  const PackedMatrix found = view(format, packed, static_cast<size_t>(size), rows, columns);
  if (!reads_format(isa, format)) throw Error("weights in a form that its kernels do not read");
  return found;
}

}  // namespace
}  // namespace resparse

using namespace resparse;

RESPARSE_EXPORT const char* resparse_error() { return last_error.c_str(); }

RESPARSE_EXPORT const InstructionSet* resparse_instruction_set(uint32_t index) { return instruction_set(index); }

RESPARSE_EXPORT uint32_t resparse_isas() { return usable_isas(); }

RESPARSE_EXPORT int resparse_bfloats(uint32_t isa) {
  return (isa == kAvx512 || isa == kAmx) && (usable_isas() & isa) != 0 && has_bfloats() ? 1 : 0;
}

RESPARSE_EXPORT int64_t resparse_pack(uint32_t format, const int8_t* weights, uint32_t rows, uint32_t columns,
                                      uint8_t* out, int64_t capacity) {
  return guarded(int64_t{-1}, [&] {
    const auto size = static_cast<int64_t>(packed_size(format, weights, rows, columns));
    if (out == nullptr) return size;
    if (capacity < size) throw Error("no room for the packed weights");
    pack(format, weights, rows, columns, out);
    return size;
  });
}

RESPARSE_EXPORT int resparse_multiply(uint32_t isa, uint32_t format, const uint8_t* packed, int64_t size, uint32_t rows,
                                      uint32_t columns, const uint8_t* x, uint32_t tokens, int32_t* out) {
  return guarded(-1, [&] {
    const PackedMatrix weights = checked_view(isa, format, packed, size, rows, columns);
    const size_t stride = round_up(columns, kColumnPad), padded = round_up(rows, kPanelRows);
    Buffer<uint8_t> input(stride * tokens);
    const Kernels& kernels = kernels_of(isa);
    for (uint32_t token = 0; token < tokens; ++token)
      std::transform(x + size_t{token} * columns, x + (size_t{token} + 1) * columns, &input[token * stride],
                     [&](uint8_t byte) { return static_cast<uint8_t>(byte ^ kernels.input_flip); });
    Product{kernels, weights, input.data(), stride, tokens}.run(
        [&](uint32_t panel, uint32_t token, uint32_t count, const Sums& sums) {
          for (uint32_t i = 0; i < count; ++i)
            std::copy_n(sums.values[i], kPanelRows, out + (token + i) * padded + size_t{panel} * kPanelRows);
        });
    return 0;
  });
}

RESPARSE_EXPORT double resparse_time(uint32_t isa, const TimedMatrix* matrices, uint32_t count, uint32_t tokens,
                                     uint32_t threads, uint32_t runs, int sums_only) {
  return guarded(-1.0, [&] { return time_products(isa, matrices, count, tokens, threads, runs, sums_only != 0); });
}

RESPARSE_EXPORT void* resparse_open(const void* block, uint64_t size) {
  return guarded(static_cast<void*>(nullptr), [&]() -> void* {
    return new OpenModel(open_model(static_cast<const uint8_t*>(block), size));
  });
}

RESPARSE_EXPORT void resparse_close(void* model) { delete static_cast<OpenModel*>(model); }

RESPARSE_EXPORT int resparse_run(void* model, const int32_t* ids, const int32_t* types, const int32_t* positions,
                                 const int64_t* starts, int32_t texts, int32_t threads, float* logits) {
  return guarded(-1, [&] {
    if (texts < 0) throw Error("a count of texts below 0");
    if (texts == 0) return 0;
    run(*static_cast<const OpenModel*>(model), Batch{ids, types, positions, starts, static_cast<uint32_t>(texts)},
        static_cast<uint32_t>(std::max(threads, 1)), logits);
    return 0;
  });
}

RESPARSE_EXPORT void resparse_trim() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// Python's build tools require this function of every extension; the library is loaded by ctypes and never imported.
RESPARSE_EXPORT void* PyInit__engine() { return nullptr; }
