#include "encoder.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "buffers.h"
#include "products.h"
#include "thread_pool.h"

namespace resparse {
namespace {

// Tokens computed together: enough to read the weights seldom, few enough to stay in the caches.
constexpr int64_t kTokensAtOnce = 512;

// Where nothing is to be quantized: what is written is not read.
constexpr Grid kUnused{1, 0, 0, 255};

class Pass {
 public:
  Pass(const OpenModel& model, const Batch& batch, uint32_t first, uint32_t count, uint32_t threads, float* logits)
      : model_(model),
        record_(*model.record),
        kernels_(*model.kernels),
        batch_(batch),
        tokens_{batch.starts + first, count},
        first_token_(batch.starts[first]),
        threads_(threads),
        first_only_(record_.head_tokens == kFirstToken),
        logits_(logits + (first_only_ ? first : batch.starts[first] - batch.starts[0]) * record_.labels),
        sizes_(model, tokens_, first_only_),
        products_(kernels_, tokens_, threads, sizes_.inputs),
        all_(tokens_.count(), record_.hidden),
        leading_(first_only_ ? count : 0, record_.hidden),
        queries_(all_.count * sizes_.bytes_stride),
        keys_(all_.count * sizes_.bytes_stride),
        values_(all_.count * sizes_.bytes_stride),
        context_(all_.count * sizes_.bytes_stride),
        intermediate_(all_.count * sizes_.intermediate_stride),
        float_queries_(all_.count * sizes_.floats_stride),
        float_keys_(all_.count * sizes_.floats_stride),
        float_values_(all_.count * sizes_.floats_stride),
        float_context_(all_.count * sizes_.floats_stride),
        float_intermediate_(all_.count * sizes_.float_intermediate_stride),
        scratch_(sizes_.attention_scratch * threads),
        peaks_(sizes_.peaks),
        head_(2 * sizes_.head_stride * head_rows().count),
        embedded_(sizes_.embedded_stride * all_.count),
        unused_(sizes_.embedded_stride * threads) {}

  void run() {
    Pool::instance().run(threads_, [this](Team::Member& team, uint32_t thread) {
      const KernelScope scope(kernels_);
      embed(team, thread);
      for (uint32_t i = 0; i < record_.layers; ++i)
        model_.layers[i].is_integer ? encode_integers(team, thread, i) : encode_any(team, thread, i);
      if (first_only_ && !cuts_last_layer()) keep_first(team);
      apply_head(team);
    });
  }

 private:
  // --- embeddings ---

  void embed(Team::Member& team, uint32_t thread) {
    const bool projected = model_.projection.weights.rows != 0;
    team.step(all_.count, [&](uint32_t token) {
      float* row = projected ? &embedded_[token * sizes_.embedded_stride] : &all_.hidden[token * all_.hidden_stride];
      const int64_t at = first_token_ + token;
      std::fill_n(row, record_.embedding, 0.0f);
      add_embeddings(at, row);
      // What is projected is quantized with the projection.
      kernels_.normalize(row, record_.embedding, model_.embedding_norm.weight, model_.embedding_norm.bias,
                         record_.epsilon, projected ? kUnused : input_grid(0),
                         projected ? &unused_[thread * sizes_.embedded_stride] : &all_.input[token * all_.bytes_stride]);
    });
    if (!projected) return;
    products_.any_to_float(team, model_.projection, {embedded_.data(), sizes_.embedded_stride, all_.count, false},
                           {false, all_.hidden.data(), all_.hidden_stride});
    team.step(all_.count, [&](uint32_t token) {
      kernels_.quantize(&all_.hidden[token * all_.hidden_stride], record_.hidden, input_grid(0),
                        &all_.input[token * all_.bytes_stride]);
    });
  }

  void add_embeddings(int64_t at, float* row) const {
    const auto words = [&] { add_row(model_.words, batch_.ids[at], row); };
    const auto positions = [&] { add_row(model_.positions, batch_.positions[at], row); };
    const auto types = [&] {
      if (model_.types.count != 0) add_row(model_.types, batch_.types == nullptr ? 0 : batch_.types[at], row);
    };
    record_.added_last == kWordsLast ? positions() : words();
    record_.added_last == kTypesLast ? positions() : types();
    round_row(row, record_.embedding, record_.first_sum);
    record_.added_last == kWordsLast ? words() : record_.added_last == kTypesLast ? types() : positions();
    round_row(row, record_.embedding, record_.embedding_sum);
  }

  // Where there is a grid.
  void round_row(float* row, uint32_t width, const Grid& grid) const {
    if (grid.scale != 0) kernels_.round(row, width, grid, row);
  }

  void add_row(const OpenTable& table, int32_t index, float* row) const {
    const size_t at = static_cast<size_t>(index) * record_.embedding;
    if (table.scale == 0) {
      const auto* values = reinterpret_cast<const float*>(table.rows) + at;
      for (uint32_t i = 0; i < record_.embedding; ++i) row[i] += values[i];
    } else {
      const auto* values = reinterpret_cast<const int8_t*>(table.rows) + at;
      for (uint32_t i = 0; i < record_.embedding; ++i) row[i] += static_cast<float>(values[i]) * table.scale;
    }
  }

  // --- a layer ---

  // The grid of a layer's input, for a layer in integers.
  Grid input_grid(uint32_t index) const {
    return index < record_.layers && model_.layers[index].is_integer ? model_.layers[index].query.input : kUnused;
  }

  // Where only first tokens are classified, the last layer needs the others for keys and values alone; unless ranges
  // are to be those of all tokens.
  bool cuts_last_layer() const { return first_only_ && !model_.layers.back().by_range; }

  Rows& rows_of(Team::Member& team, uint32_t index) {
    if (index + 1 != record_.layers || !cuts_last_layer()) return all_;
    keep_first(team);
    return leading_;
  }

  void encode_integers(Team::Member& team, uint32_t thread, uint32_t index) {
    const OpenLayer& layer = model_.layers[index];
    const Layer& record = *layer.record;
    const size_t stride = sizes_.bytes_stride, wide = sizes_.intermediate_stride;
    Rows& rows = rows_of(team, index);
    const IntegerProduct for_attention[] = {
        {{layer.query, rows.input.data(), rows.bytes_stride, rows.count},
         {kNone, record.query_grid, queries_.data(), stride}},
        {{layer.key, all_.input.data(), all_.bytes_stride, all_.count},
         {kNone, record.key_grid, keys_.data(), stride}},
        {{layer.value, all_.input.data(), all_.bytes_stride, all_.count},
         {kNone, record.value_grid, values_.data(), stride}}};
    if (&rows == &leading_) {
      products_.to_integers(team, for_attention, 1);
      products_.to_integers(team, for_attention + 1, 2);
    } else {
      products_.to_integers(team, for_attention, 3);
    }
    attend(team, thread, layer, rows, nullptr);
    const FloatResult residual{true, rows.hidden.data(), rows.hidden_stride};
    products_.to_float(team, {layer.attention_output, context_.data(), stride, rows.count}, residual);
    normalize(team, rows, layer.attention_norm, {}, layer.intermediate.input);
    const IntegerProduct intermediate{{layer.intermediate, rows.input.data(), rows.bytes_stride, rows.count},
                                      {record.activation, layer.output.input, intermediate_.data(), wide}};
    products_.to_integers(team, &intermediate, 1);
    products_.to_float(team, {layer.output, intermediate_.data(), wide, rows.count}, residual);
    normalize(team, rows, layer.output_norm, {}, input_grid(index + 1));
  }

  // A layer of which any part is in float: between its parts all is in float.
  void encode_any(Team::Member& team, uint32_t thread, uint32_t index) {
    const OpenLayer& layer = model_.layers[index];
    const size_t stride = sizes_.floats_stride, wide = sizes_.float_intermediate_stride;
    Rows& rows = rows_of(team, index);
    const FloatRows everything{all_.hidden.data(), all_.hidden_stride, all_.count, false};
    const FloatRows x{rows.hidden.data(), rows.hidden_stride, rows.count, &rows == &leading_};
    products_.any_to_float(team, layer.query, x, {false, float_queries_.data(), stride});
    products_.any_to_float(team, layer.key, everything, {false, float_keys_.data(), stride},
                           &rows == &all_ && Products::same_inputs(layer.query, layer.key));
    products_.any_to_float(team, layer.value, everything, {false, float_values_.data(), stride},
                           Products::same_inputs(layer.key, layer.value));
    const Layer& record = *layer.record;
    if (record.attention != kIntegerAttention) {
      round_for_attention(team, layer, rows);
      attend_floats(team, thread, layer, rows);
    } else {
      quantize_for_attention(team, layer, rows);
      attend(team, thread, layer, rows, float_context_.data());
    }
    const FloatResult residual{true, rows.hidden.data(), rows.hidden_stride};
    round(team, rows, record.attention_residual);
    products_.any_to_float(team, layer.attention_output, {float_context_.data(), stride, rows.count, x.by_text},
                           residual);
    normalize(team, rows, layer.attention_norm, record.attention_sum, kUnused);
    products_.any_to_float(team, layer.intermediate, x, {false, float_intermediate_.data(), wide});
    team.step(rows.count, [&](uint32_t row) {
      activate(&float_intermediate_[row * wide], layer.intermediate, record.activation, layer.table);
    });
    round(team, rows, record.output_residual);
    products_.any_to_float(team, layer.output, {float_intermediate_.data(), wide, rows.count, x.by_text}, residual);
    normalize(team, rows, layer.output_norm, record.output_sum, input_grid(index + 1));
  }

  void keep_first(Team::Member& team) {
    team.step(tokens_.texts, [&](uint32_t text) {
      const uint32_t first = tokens_.start_of(text);
      std::memcpy(&leading_.hidden[text * leading_.hidden_stride], &all_.hidden[first * all_.hidden_stride],
                  sizeof(float) * record_.hidden);
      std::memcpy(&leading_.input[text * leading_.bytes_stride], &all_.input[first * all_.bytes_stride],
                  record_.hidden);
    });
  }

  // row = activation(row), the outputs of a linear.
  void activate(float* row, const OpenLinear& linear, uint32_t activation, const float* table) const {
    const uint32_t width = linear.weights.rows;
    if (table == nullptr) return kernels_.activate(row, width, activation);
    constexpr uint32_t kAtOnce = 256;
    uint8_t integers[kAtOnce];
    for (uint32_t first = 0; first < width; first += kAtOnce) {
      const uint32_t count = std::min(kAtOnce, width - first);
      kernels_.quantize(row + first, count, linear.rounding, integers);
      for (uint32_t i = 0; i < count; ++i) row[first + i] = table[integers[i] ^ kernels_.input_flip];
    }
  }

  // Hidden states, where there is a grid.
  void round(Team::Member& team, Rows& rows, const Grid& grid) {
    if (grid.scale == 0) return;
    team.step(rows.count,
              [&](uint32_t row) { round_row(&rows.hidden[row * rows.hidden_stride], record_.hidden, grid); });
  }

  // rows.hidden = norm(rows.hidden), which are rounded before where `sum` is a grid, and rows.input the same, quantized.
  void normalize(Team::Member& team, Rows& rows, const OpenNorm& norm, const Grid& sum, Grid grid) {
    team.step(rows.count, [&](uint32_t row) {
      round_row(&rows.hidden[row * rows.hidden_stride], record_.hidden, sum);
      kernels_.normalize(&rows.hidden[row * rows.hidden_stride], record_.hidden, norm.weight, norm.bias,
                         record_.epsilon, grid, &rows.input[row * rows.bytes_stride]);
    });
  }

  // --- attention ---

  void round_for_attention(Team::Member& team, const OpenLayer& layer, const Rows& rows) {
    const Layer& record = *layer.record;
    if (record.query_grid.scale == 0 && record.key_grid.scale == 0 && record.value_grid.scale == 0) return;
    team.step(all_.count, [&](uint32_t row) {
      const size_t at = row * sizes_.floats_stride;
      if (row < rows.count) round_row(&float_queries_[at], layer.width(), record.query_grid);
      round_row(&float_keys_[at], layer.width(), record.key_grid);
      round_row(&float_values_[at], layer.width(), record.value_grid);
    });
  }

  void quantize_for_attention(Team::Member& team, const OpenLayer& layer, const Rows& rows) {
    const auto quantize = [&](const Buffer<float>& from, uint32_t row, Grid grid, Buffer<uint8_t>& to) {
      kernels_.quantize(from.data() + row * sizes_.floats_stride, layer.width(), grid, &to[row * sizes_.bytes_stride]);
    };
    team.step(all_.count, [&](uint32_t row) {
      if (row < rows.count) quantize(float_queries_, row, layer.record->query_grid, queries_);
      quantize(float_keys_, row, layer.record->key_grid, keys_);
      quantize(float_values_, row, layer.record->value_grid, values_);
    });
  }

  // Calls attend(text, head, its first column, the row of its first query, queries) for every head of every text.
  template <typename Attend>
  void each_head(Team::Member& team, const OpenLayer& layer, const Rows& rows, const Attend& attend) {
    const uint32_t heads = layer.record->heads;
    team.step(tokens_.texts * heads, [&](uint32_t task) {
      const uint32_t text = task / heads;
      const bool first_only = &rows == &leading_;
      attend(text, size_t{task % heads} * layer.head_size(), first_only ? text : tokens_.start_of(text),
             first_only ? 1 : tokens_.length_of(text));
    });
  }

  // Of quantized queries, keys and values: to context_, or to `floats` where it is not null.
  void attend(Team::Member& team, uint32_t thread, const OpenLayer& layer, const Rows& rows, float* floats) {
    const Layer& record = *layer.record;
    each_head(team, layer, rows, [&](uint32_t text, size_t column, uint32_t row, uint32_t query_count) {
      const size_t stride = sizes_.bytes_stride, start = tokens_.start_of(text);
      AttentionTask task{};
      task.queries = &queries_[row * stride + column];
      task.keys = &keys_[start * stride + column];
      task.values = &values_[start * stride + column];
      task.context = &context_[row * stride + column];
      task.query_stride = task.stride = task.context_stride = stride;
      if (floats != nullptr) task.floats = floats + row * sizes_.floats_stride + column;
      task.float_stride = sizes_.floats_stride;
      task.tokens = tokens_.length_of(text);
      task.query_count = query_count;
      task.head_size = layer.head_size();
      task.query_grid = record.query_grid;
      task.probabilities_grid = record.probabilities_grid;
      task.context_grid = floats != nullptr ? kUnused : layer.attention_output.input;
      task.score_scale = record.query_grid.scale * record.score_scale * record.key_grid.scale;
      task.context_scale = record.probabilities_grid.scale * record.value_grid.scale;
      kernels_.attend(task, &scratch_[thread * sizes_.attention_scratch]);
    });
  }

  void attend_floats(Team::Member& team, uint32_t thread, const OpenLayer& layer, const Rows& rows) {
    const bool by_range = layer.record->attention == kAttentionByRange;
    if (by_range) find_peaks(team, thread, layer, rows);
    each_head(team, layer, rows, [&](uint32_t text, size_t column, uint32_t row, uint32_t query_count) {
      FloatAttentionTask task = float_task(layer, text, column, row, query_count);
      if (by_range) task.probabilities_grid = grid_of_range(0, peak_of(text, layer.record->heads));
      kernels_.attend_floats(task, &scratch_[thread * sizes_.attention_scratch]);
    });
    if (layer.record->context_grid.scale == 0) return;
    team.step(rows.count, [&](uint32_t row) {
      round_row(&float_context_[row * sizes_.floats_stride], layer.width(), layer.record->context_grid);
    });
  }

  FloatAttentionTask float_task(const OpenLayer& layer, uint32_t text, size_t column, uint32_t row,
                                uint32_t query_count) {
    const size_t stride = sizes_.floats_stride, start = tokens_.start_of(text);
    FloatAttentionTask task{};
    task.queries = &float_queries_[row * stride + column];
    task.keys = &float_keys_[start * stride + column];
    task.values = &float_values_[start * stride + column];
    task.context = &float_context_[row * stride + column];
    task.query_stride = task.stride = task.context_stride = stride;
    task.tokens = tokens_.length_of(text);
    task.query_count = query_count;
    task.head_size = layer.head_size();
    task.score_scale = layer.record->score_scale;
    std::copy_n(layer.record->score_grids, kMaxScoreGrids, task.score_grids);
    task.softmax_grid = layer.record->softmax_grid;
    task.probabilities_grid = layer.record->probabilities_grid;
    return task;
  }

  // Rounds queries, keys and values by the ranges of texts, and finds the largest probability of each head.
  void find_peaks(Team::Member& team, uint32_t thread, const OpenLayer& layer, const Rows& rows) {
    for (Buffer<float>* factor : {&float_queries_, &float_keys_, &float_values_})
      products_.round_by_range(team, factor->data(), sizes_.floats_stride, layer.width());
    each_head(team, layer, rows, [&](uint32_t text, size_t column, uint32_t row, uint32_t query_count) {
      FloatAttentionTask task = float_task(layer, text, column, row, query_count);
      task.peak = &peaks_[text * layer.record->heads + column / layer.head_size()];
      *task.peak = 0;
      kernels_.attend_floats(task, &scratch_[thread * sizes_.attention_scratch]);
    });
  }

  float peak_of(uint32_t text, uint32_t heads) const {
    const float* const first = peaks_.data() + size_t{text} * heads;
    return *std::max_element(first, first + heads);
  }

  // --- the head ---

  Rows& head_rows() { return first_only_ ? leading_ : all_; }

  void apply_head(Team::Member& team) {
    Rows& rows = head_rows();
    FloatRows x{rows.hidden.data(), rows.hidden_stride, rows.count, first_only_};
    const size_t stride = sizes_.head_stride;
    for (uint32_t i = 0; i < record_.head_linears; ++i) {
      const HeadLinear& head = record_.head[i];
      float* const out = &head_[i % 2 * stride * rows.count];
      products_.any_to_float(team, model_.head[i], x, {false, out, stride});
      const bool is_last = i + 1 == record_.head_linears;
      team.step(rows.count, [&](uint32_t index) {
        float* row = out + index * stride;
        activate(row, model_.head[i], head.activation, model_.tables[i]);
        if (is_last)
          std::memcpy(logits_ + size_t{index} * record_.labels, row, sizeof(float) * record_.labels);
      });
      x = {out, stride, rows.count, first_only_};
    }
  }

  const OpenModel& model_;
  const Model& record_;
  const Kernels& kernels_;
  const Batch& batch_;
  const Tokens tokens_;
  const int64_t first_token_;
  const uint32_t threads_;
  const bool first_only_;
  float* const logits_;
  const BufferSizes sizes_;
  Products products_;
  Rows all_, leading_;
  Buffer<uint8_t> queries_, keys_, values_, context_, intermediate_;
  // Only for layers of which a part is in float.
  Buffer<float> float_queries_, float_keys_, float_values_, float_context_, float_intermediate_;
  Buffer<uint8_t> scratch_;
  Buffer<float> peaks_;  // the largest probability of each head of each text
  Buffer<float> head_, embedded_;
  Buffer<uint8_t> unused_;
};

void check_index(int32_t index, const OpenTable& table, const char* what) {
  if (index < 0 || static_cast<uint32_t>(index) >= table.count)
    throw Error(std::string("a token's ") + what + " is " + std::to_string(index) + "; the model has " +
                std::to_string(table.count));
}

void check(const OpenModel& model, const Batch& batch) {
  for (uint32_t text = 0; text < batch.texts; ++text)
    if (batch.starts[text + 1] <= batch.starts[text]) throw Error("a text has no tokens");
  for (int64_t token = batch.starts[0]; token < batch.starts[batch.texts]; ++token) {
    check_index(batch.ids[token], model.words, "id");
    check_index(batch.positions[token], model.positions, "position");
    if (model.types.count != 0 && batch.types != nullptr) check_index(batch.types[token], model.types, "type");
  }
}

}  // namespace

void run(const OpenModel& model, const Batch& batch, uint32_t threads, float* logits) {
  check(model, batch);
  for (uint32_t first = 0; first < batch.texts;) {
    uint32_t last = first + 1;
    while (last < batch.texts && batch.starts[last + 1] - batch.starts[first] <= kTokensAtOnce) ++last;
    Pass(model, batch, first, last - first, threads, logits).run();
    first = last;
  }
}

}  // namespace resparse
