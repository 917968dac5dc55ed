// Coefficients of GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) by piecewise polynomials, whose table instruction
// sets can look up sixteen numbers of at once.
//
// gelu(x) = x / 2 + h(|x|), where h(a) = a / 2 * erf(a / sqrt(2)). In each segment, h is a polynomial of the distance
// from the segment's middle; the last segment is unbounded, since h(a) = a / 2 from there on. Error: at most 6e-7.

#pragma once

#include <cstdint>

namespace resparse {

struct GeluTable {
  static constexpr uint32_t kSegments = 16, kDegree = 4;
  static constexpr float kWidth = 0.36f;  // of a segment; the middle of the first is at 0

  alignas(64) float coefficients[kDegree + 1][kSegments];

  GeluTable();
};

extern const GeluTable kGeluTable;

}  // namespace resparse
