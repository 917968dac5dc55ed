// Products of bfloat16, which some processors have beside an instruction set.

#pragma once

#include <cstddef>
#include <cstdint>

#include "weight_formats.h"

// Needs a compiler that knows the instructions.
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10)
#define RESPARSE_BFLOATS 1
#endif

namespace resparse {

// Whether this processor, and this build, has the two below.
bool has_bfloats();

// As Kernels::multiply_floats, with weights in kBfloat16 and rows that `to_bfloats` has written; sums are of float32.
void multiply_bfloats(const PackedMatrix& weights, uint32_t panel, const uint16_t* x, size_t stride, uint32_t tokens,
                      const float* biases, bool add, float* out, size_t out_stride);

// Rounds a row to bfloat16, half to even; writes zeros after it, up to a multiple of 16 numbers.
void to_bfloats(const float* row, uint32_t width, uint16_t* out);

}  // namespace resparse
