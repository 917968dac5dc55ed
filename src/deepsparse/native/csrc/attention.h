// Softmax attention of a layer, between its linears: rotary positions, quantization, and the heads of texts in tasks.

#pragma once

#include <vector>

#include "buffers.h"
#include "model.h"
#include "products.h"
#include "thread_pool.h"

namespace resparse {

class Attention {
 public:
  Attention(const OpenModel& model, const Tokens& tokens, const BufferSizes& sizes, Products& products,
            uint32_t threads);

  // What linears write, and read: rows of all heads, as in BufferSizes. Queries and context have one row a text where
  // only first tokens have queries. Of floats only for layers of which a part is in float.
  Buffer<uint8_t> queries, keys, values, context;
  Buffer<float> float_queries, float_keys, float_values, float_context;

  // Before the first layer.
  void compute_angles(Team::Member& team);

  // `first_only`: only the first token of each text has a query.
  void of_integers(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only);
  void of_floats(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only);

 private:
  struct Part;

  const float* angles_of(const OpenLayer& layer) const;
  void rotate(Team::Member& team, const OpenLayer& layer, bool first_only);
  void quantize(Team::Member& team, const OpenLayer& layer, bool first_only);
  void attend(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only, float* floats);
  void attend_floats(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only);
  FloatAttentionTask float_task(const OpenLayer& layer, const Part& part);
  void round(Team::Member& team, const OpenLayer& layer, bool first_only);
  void find_peaks(Team::Member& team, uint32_t thread, const OpenLayer& layer, bool first_only);
  float peak_of(uint32_t text, const OpenLayer& layer) const;
  template <typename Attend>
  void each_part(Team::Member& team, const OpenLayer& layer, bool first_only, const Attend& attend) const;

  const Kernels& kernels_;
  const Tokens tokens_;
  const BufferSizes& sizes_;
  Products& products_;
  const std::vector<const OpenLayer*> rotary_;  // layers with distinct frequencies
  Buffer<float> angles_;                        // of each, for every place: its cosines, then its sines
  Buffer<uint8_t> scratch_;
  Buffer<float> peaks_;  // where attention is rounded by range: the largest probability of each part of each text
};

}  // namespace resparse
