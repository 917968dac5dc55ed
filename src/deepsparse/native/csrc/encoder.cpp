#include "encoder.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "attention.h"
#include "buffers.h"
#include "products.h"
#include "thread_pool.h"

namespace resparse {
namespace {

// Tokens computed together: enough to read the weights seldom, few enough to stay in the caches.
constexpr int64_t kTokensAtOnce = 512;

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
        of_texts_(record_.head_tokens != kEveryToken),
        logits_(logits + (of_texts_ ? first : batch.starts[first] - batch.starts[0]) * record_.labels),
        sizes_(model, tokens_, of_texts_),
        products_(kernels_, tokens_, threads, sizes_.inputs),
        all_(tokens_.count(), record_.hidden, record_.keeps_sums != 0),
        of_text_(of_texts_ ? count : 0, record_.hidden, record_.keeps_sums != 0),
        attention_(model, tokens_, sizes_, products_, threads),
        intermediate_(all_.count * sizes_.intermediate_stride),
        float_intermediate_(all_.count * sizes_.float_intermediate_stride),
        gates_(all_.count * sizes_.gate_stride),
        head_(2 * sizes_.head_stride * head_rows().count),
        embedded_(sizes_.embedded_stride * all_.count),
        unused_(std::max(sizes_.embedded_stride, sizes_.head_stride) * threads) {}

  void run() {
    Pool::instance().run(threads_, [this](Team::Member& team, uint32_t thread) {
      const KernelScope scope(kernels_);
      attention_.compute_angles(team);
      embed(team, thread);
      for (uint32_t i = 0; i < record_.layers; ++i)
        model_.layers[i].is_integer ? encode_integers(team, thread, i) : encode_any(team, thread, i);
      if (record_.head_tokens == kFirstToken && !cuts_last_layer()) keep_first(team);
      if (record_.head_tokens == kMeanOfTokens) keep_mean(team);
      apply_head(team, thread);
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
      if (!projected) copy_sum(all_, token);
    });
    if (!projected) return;
    products_.any_to_float(team, model_.projection, {embedded_.data(), sizes_.embedded_stride, all_.count, false},
                           {false, all_.hidden.data(), all_.hidden_stride});
    team.step(all_.count, [&](uint32_t token) {
      kernels_.quantize(&all_.hidden[token * all_.hidden_stride], record_.hidden, input_grid(0),
                        &all_.input[token * all_.bytes_stride]);
      copy_sum(all_, token);
    });
  }

  // Where sums are kept, what is to be normalized, or is read as it is.
  void copy_sum(Rows& rows, uint32_t row) const {
    if (record_.keeps_sums != 0)
      std::memcpy(rows.read(row), &rows.hidden[row * rows.hidden_stride], sizeof(float) * record_.hidden);
  }

  void add_embeddings(int64_t at, float* row) const {
    const auto words = [&] { add_row(model_.words, batch_.ids[at], row); };
    const auto positions = [&] {
      if (model_.positions.count != 0) add_row(model_.positions, batch_.positions[at], row);
    };
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
  bool cuts_last_layer() const { return record_.head_tokens == kFirstToken && !model_.layers.back().by_range; }

  Rows& rows_of(Team::Member& team, uint32_t index) {
    if (index + 1 != record_.layers || !cuts_last_layer()) return all_;
    keep_first(team);
    return of_text_;
  }

  void encode_integers(Team::Member& team, uint32_t thread, uint32_t index) {
    const OpenLayer& layer = model_.layers[index];
    const Layer& record = *layer.record;
    const size_t stride = sizes_.bytes_stride, wide = sizes_.intermediate_stride;
    Rows& rows = rows_of(team, index);
    const IntegerProduct for_attention[] = {
        {{layer.query, rows.input.data(), rows.bytes_stride, rows.count},
         {kNone, record.query_grid, attention_.queries.data(), stride}},
        {{layer.key, all_.input.data(), all_.bytes_stride, all_.count},
         {kNone, record.key_grid, attention_.keys.data(), stride}},
        {{layer.value, all_.input.data(), all_.bytes_stride, all_.count},
         {kNone, record.value_grid, attention_.values.data(), stride}}};
    if (&rows == &of_text_) {
      products_.to_integers(team, for_attention, 1);
      products_.to_integers(team, for_attention + 1, 2);
    } else {
      products_.to_integers(team, for_attention, 3);
    }
    attention_.of_integers(team, thread, layer, &rows == &of_text_);
    const FloatResult residual{true, rows.hidden.data(), rows.hidden_stride};
    products_.to_float(team, {layer.attention_output, attention_.context.data(), stride, rows.count}, residual);
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
    const Layer& record = *layer.record;
    const size_t stride = sizes_.floats_stride, wide = sizes_.float_intermediate_stride;
    Rows& rows = rows_of(team, index);
    const FloatRows everything{all_.read(0), all_.hidden_stride, all_.count, false};
    const FloatRows x{rows.read(0), rows.hidden_stride, rows.count, &rows == &of_text_};
    products_.any_to_float(team, layer.query, x, {false, attention_.float_queries.data(), stride});
    products_.any_to_float(team, layer.key, everything, {false, attention_.float_keys.data(), stride},
                           &rows == &all_ && Products::same_inputs(layer.query, layer.key));
    products_.any_to_float(team, layer.value, everything, {false, attention_.float_values.data(), stride},
                           Products::same_inputs(layer.key, layer.value));
    attention_.of_floats(team, thread, layer, &rows == &of_text_);
    const FloatResult residual{true, rows.hidden.data(), rows.hidden_stride};
    round(team, rows, record.attention_residual);
    products_.any_to_float(team, layer.attention_output,
                           {attention_.float_context.data(), stride, rows.count, x.by_text}, residual);
    normalize(team, rows, layer.attention_norm, record.attention_sum, kUnused);
    products_.any_to_float(team, layer.intermediate, x, {false, float_intermediate_.data(), wide});
    const size_t gate_stride = sizes_.gate_stride;
    if (layer.is_gated())
      products_.any_to_float(team, layer.gate, x, {false, gates_.data(), gate_stride},
                             Products::same_inputs(layer.intermediate, layer.gate));
    team.step(rows.count, [&](uint32_t row) {
      float* const activated = &float_intermediate_[row * wide];
      if (layer.is_gated())
        kernels_.gate(activated, &gates_[row * gate_stride], layer.intermediate_size(), record.activation);
      else
        activate(activated, layer.intermediate, record.activation, layer.table);
    });
    round(team, rows, record.output_residual);
    products_.any_to_float(team, layer.output, {float_intermediate_.data(), wide, rows.count, x.by_text}, residual);
    normalize(team, rows, layer.output_norm, record.output_sum, input_grid(index + 1));
  }

  void keep_first(Team::Member& team) {
    team.step(tokens_.texts, [&](uint32_t text) {
      const uint32_t first = tokens_.start_of(text);
      const size_t width = sizeof(float) * record_.hidden;
      std::memcpy(&of_text_.hidden[text * of_text_.hidden_stride], &all_.hidden[first * all_.hidden_stride], width);
      if (record_.keeps_sums != 0) std::memcpy(of_text_.read(text), all_.read(first), width);
      std::memcpy(&of_text_.input[text * of_text_.bytes_stride], &all_.input[first * all_.bytes_stride],
                  record_.hidden);
    });
  }

  void keep_mean(Team::Member& team) {
    constexpr uint32_t kColumns = kPanelRows;
    const uint32_t blocks = divide_up(record_.hidden, kColumns);
    team.step(tokens_.texts * blocks, [&](uint32_t task) {
      const uint32_t text = task / blocks, column = task % blocks * kColumns;
      double totals[kColumns] = {};
      for (uint32_t token = tokens_.start_of(text); token < tokens_.start_of(text + 1); ++token)
        for (uint32_t i = 0; i < kColumns; ++i) totals[i] += all_.read(token)[column + i];
      float* const mean = of_text_.read(text) + column;
      for (uint32_t i = 0; i < kColumns; ++i) mean[i] = static_cast<float>(totals[i] / tokens_.length_of(text));
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

  // What the next linear reads of rows.hidden, which are rounded before where `sum` is a grid: that, normalized, and the
  // same quantized.
  void normalize(Team::Member& team, Rows& rows, const OpenNorm& norm, const Grid& sum, Grid grid) {
    team.step(rows.count, [&](uint32_t row) {
      round_row(&rows.hidden[row * rows.hidden_stride], record_.hidden, sum);
      copy_sum(rows, row);
      kernels_.normalize(rows.read(row), record_.hidden, norm.weight, norm.bias, record_.epsilon, grid,
                         &rows.input[row * rows.bytes_stride]);
    });
  }

  // --- the head ---

  Rows& head_rows() { return of_texts_ ? of_text_ : all_; }

  void apply_head(Team::Member& team, uint32_t thread) {
    Rows& rows = head_rows();
    FloatRows x{rows.read(0), rows.hidden_stride, rows.count, of_texts_};
    const size_t stride = sizes_.head_stride;
    for (uint32_t i = 0; i < record_.head_linears; ++i) {
      const HeadLinear& head = record_.head[i];
      float* const out = &head_[i % 2 * stride * rows.count];
      products_.any_to_float(team, model_.head[i], x, {false, out, stride});
      const bool is_last = i + 1 == record_.head_linears;
      team.step(rows.count, [&](uint32_t index) {
        float* row = out + index * stride;
        activate(row, model_.head[i], head.activation, model_.tables[i]);
        const OpenNorm& norm = model_.head_norms[i];
        if (norm.weight != nullptr)
          kernels_.normalize(row, head.linear.rows, norm.weight, norm.bias, record_.epsilon, kUnused,
                             &unused_[thread * std::max(sizes_.embedded_stride, sizes_.head_stride)]);
        if (is_last)
          std::memcpy(logits_ + size_t{index} * record_.labels, row, sizeof(float) * record_.labels);
      });
      x = {out, stride, rows.count, of_texts_};
    }
  }

  const OpenModel& model_;
  const Model& record_;
  const Kernels& kernels_;
  const Batch& batch_;
  const Tokens tokens_;
  const int64_t first_token_;
  const uint32_t threads_;
  const bool of_texts_;  // the head is applied to one row of each text, not to every token
  float* const logits_;
  const BufferSizes sizes_;
  Products products_;
  Rows all_, of_text_;
  Attention attention_;
  Buffer<uint8_t> intermediate_;
  // Only for layers of which a part is in float.
  Buffer<float> float_intermediate_, gates_;
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
  for (const OpenLayer& layer : model.layers)
    for (uint32_t text = 0; layer.bias != nullptr && text < batch.texts; ++text)
      if (batch.starts[text + 1] - batch.starts[text] > layer.record->reach)
        throw Error("a text has more than the " + std::to_string(layer.record->reach) +
                    " tokens that the model's relative positions reach");
  for (int64_t token = batch.starts[0]; token < batch.starts[batch.texts]; ++token) {
    check_index(batch.ids[token], model.words, "id");
    if (model.positions.count != 0) check_index(batch.positions[token], model.positions, "position");
    if (model.types.count != 0 && batch.types != nullptr) check_index(batch.types[token], model.types, "type");
  }
}

}  // namespace

void run(const OpenModel& model, const Batch& batch, uint32_t threads, float* logits) {
  check(model, batch);
  threads = std::min(threads, Pool::instance().cores());
  for (uint32_t first = 0; first < batch.texts;) {
    uint32_t last = first + 1;
    while (last < batch.texts && batch.starts[last + 1] - batch.starts[first] <= kTokensAtOnce) ++last;
    Pass(model, batch, first, last - first, threads, logits).run();
    first = last;
  }
}

}  // namespace resparse
