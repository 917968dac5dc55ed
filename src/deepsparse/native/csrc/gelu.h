// GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) by a table, for instruction sets that can look 16 numbers up at
// once.
//
// gelu(x) = x / 2 + h(|x|), where h(a) = a / 2 * erf(a / sqrt(2)). For h there is a polynomial of a's distance from the
// middle of its segment; the last segment has no end, since h(a) is a / 2 from there on. The error is at most 6e-7.

#pragma once

#include <cstdint>

namespace resparse {

struct GeluTable {
  static constexpr uint32_t kSegments = 16, kDegree = 4;
  static constexpr float kWidth = 0.36f;  // of a segment; the first one's middle is at 0

  alignas(64) float coefficients[kDegree + 1][kSegments];

  GeluTable();
};

extern const GeluTable kGeluTable;

}  // namespace resparse
