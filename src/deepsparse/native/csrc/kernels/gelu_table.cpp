#include "kernels/gelu_table.h"

#include <cmath>

namespace resparse {
namespace {

constexpr uint32_t kNodes = GeluTable::kDegree + 1;

double half_of_gelu(double a) { return 0.5 * a * std::erf(a * std::sqrt(0.5)); }

// Coefficients of the polynomial through the Chebyshev nodes around `middle`, by Newton's divided differences.
void fit(double middle, double (&coefficients)[kNodes]) {
  double nodes[kNodes], differences[kNodes];
  for (uint32_t i = 0; i < kNodes; ++i) {
    nodes[i] = 0.5 * GeluTable::kWidth * std::cos((2 * i + 1) * std::acos(-1.0) / (2 * kNodes));
    differences[i] = half_of_gelu(middle + nodes[i]);
  }
  for (uint32_t order = 1; order < kNodes; ++order)
    for (uint32_t i = kNodes - 1; i >= order; --i)
      differences[i] = (differences[i] - differences[i - 1]) / (nodes[i] - nodes[i - order]);
  for (double& coefficient : coefficients) coefficient = 0;
  for (uint32_t i = kNodes; i-- > 0;) {
    // coefficients = coefficients * (r - node) + difference
    for (uint32_t power = kNodes - 1; power > 0; --power)
      coefficients[power] = coefficients[power - 1] - nodes[i] * coefficients[power];
    coefficients[0] = differences[i] - nodes[i] * coefficients[0];
  }
}

}  // namespace

GeluTable::GeluTable() {
  for (uint32_t segment = 0; segment < kSegments; ++segment) {
    const double middle = segment * static_cast<double>(kWidth);
    double fitted[kNodes] = {0.5 * middle, 0.5};
    if (segment + 1 < kSegments) fit(middle, fitted);
    for (uint32_t power = 0; power < kNodes; ++power)
      coefficients[power][segment] = static_cast<float>(fitted[power]);
  }
}

const GeluTable kGeluTable;

}  // namespace resparse
