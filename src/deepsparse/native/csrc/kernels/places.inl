// Attention whose scores depend on the places of query and key: with a bias for each distance between them, or to the
// keys in a window around the query. Included by encoder_kernels.inl, for every instruction set.

// The keys that any of some queries may attend to: multiples of 16.
struct Keys {
  uint32_t begin, end;
};

RESPARSE_INLINE Keys keys_of(const Places& places, uint32_t first, uint32_t rows, uint32_t tokens) {
  const auto padded = static_cast<uint32_t>(round_up(tokens, kPanelRows));
  if (places.window == kNoWindow) return {0, padded};
  const uint64_t low = uint64_t{places.first} + first, high = low + rows + places.window;
  return {low > places.window ? static_cast<uint32_t>(low - places.window) / kPanelRows * kPanelRows : 0,
          high < padded ? static_cast<uint32_t>(round_up(high, kPanelRows)) : padded};
}

// Scores of one query.
class ScoresByPlace {
 public:
  inline RESPARSE_INLINED ScoresByPlace(const Places& places, uint32_t query, uint32_t tokens, float scale,
                                        float bias_scale)
      : scale_(scale), bias_scale_(bias_scale), bias_(nullptr) {
    const uint64_t place = uint64_t{places.first} + query, end = place + places.window + 1;
    low_ = static_cast<int32_t>(place > places.window ? place - places.window : 0);
    high_ = static_cast<int32_t>(end < tokens ? end : tokens);
    if (places.bias != nullptr) bias_ = places.bias - place;
    for (uint32_t lane = 0; lane < kVectorLanes; ++lane) lanes_[lane] = static_cast<int32_t>(lane);
  }

  // A vector of them from a key on; those that are not attended to are the lowest.
  inline RESPARSE_INLINED Floats at(Floats scores, uint32_t key) const {
    scores = scores * scale_;
    if (bias_ != nullptr) scores += load(bias_ + key) * bias_scale_;
    const Ints keys = lanes_ + static_cast<int32_t>(key);
    return ((keys >= low_) & (keys < high_)) != 0 ? scores : broadcast(kLowest);
  }

  inline RESPARSE_INLINED bool sees(uint32_t key) const {
    return static_cast<int32_t>(key) >= low_ && static_cast<int32_t>(key) < high_;
  }

 private:
  static constexpr float kLowest = -1e30f;
  float scale_, bias_scale_;
  const float* bias_;
  int32_t low_, high_;
  Ints lanes_;
};

RESPARSE_INLINE float highest(Floats x) {
  float most = x[0];
  for (uint32_t lane = 1; lane < kVectorLanes; ++lane) most = x[lane] > most ? x[lane] : most;
  return most;
}

// As `softmax`, for the keys that are seen.
__attribute__((noinline)) void softmax_by_place(int32_t* scores, uint32_t rows, uint32_t tokens, float scale,
                                                Grid grid, const Places& places, uint32_t first, Keys seen,
                                                uint8_t* out) {
  constexpr float kPerLog2 = 1.44269504088896341f;
  const size_t padded = round_up(tokens, kPanelRows);
  const Quantizer quantizer = quantizer_of(grid);
  for (uint32_t row = 0; row < rows; ++row, scores += padded, out += padded) {
    const ScoresByPlace placed(places, first + row, tokens, scale * kPerLog2, kPerLog2);
    float* const values = reinterpret_cast<float*>(scores);
    Floats most = broadcast(-1e30f), total{};
    for (uint32_t i = seen.begin; i < seen.end; i += kVectorLanes) {
      const Floats value = placed.at(to_floats(load(scores + i)), i);
      store(values + i, value);
      most = maximum(most, value);
    }
    const float maximal = highest(most);
    for (uint32_t i = seen.begin; i < seen.end; i += kVectorLanes) {
      const Floats power = maximum(load(values + i) - maximal, broadcast(-126.0f));
      const Floats shifted = power + kRounder;
      const Floats value = power_of_two(shifted, power - (shifted - kRounder));
      total += value;
      store(values + i, value);
    }
    const Floats factor = quantizer.inverse * (1.0f / sum(total));
    for (uint32_t i = seen.begin; i < seen.end; i += kVectorLanes)
      store(out + i, low_bytes(quantized(load(values + i), factor, quantizer)));
  }
}

// As `softmax_floats`, for the keys that are seen.
RESPARSE_INLINE void softmax_floats_by_place(float* scores, uint32_t rows, uint32_t tokens, float scale,
                                             const Places& places, uint32_t first, Keys seen) {
  const size_t padded = round_up(tokens, kPanelRows);
  for (uint32_t row = 0; row < rows; ++row, scores += padded) {
    const ScoresByPlace placed(places, first + row, tokens, scale, 1.0f);
    Floats most = broadcast(-1e30f), total{};
    for (uint32_t i = seen.begin; i < seen.end; i += kVectorLanes) {
      const Floats value = placed.at(load(scores + i), i);
      store(scores + i, value);
      most = maximum(most, value);
    }
    const float maximal = highest(most);
    for (uint32_t i = seen.begin; i < seen.end; i += kVectorLanes)
      store(scores + i, exponential(load(scores + i) - maximal));
    for (uint32_t i = seen.begin; i < seen.end; ++i)
      if (!placed.sees(i)) scores[i] = 0;
    for (uint32_t i = seen.begin; i < seen.end; i += kVectorLanes) total += load(scores + i);
    const float factor = 1.0f / sum(total);
    for (uint32_t i = seen.begin; i < seen.end; i += kVectorLanes) store(scores + i, load(scores + i) * factor);
  }
}
