#include "encoder.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "thread_pool.h"

namespace resparse {
namespace {

// Tokens computed together: enough to read the weights seldom, few enough to stay in the caches.
constexpr int64_t kTokensAtOnce = 512;

// A task of a step is a product of some panels with some tokens.
constexpr uint32_t kPanelsOfTask = 4;
constexpr uint32_t kMostTokensOfTask = 128;

uint32_t token_count(const Batch& batch, uint32_t first, uint32_t count) {
  return static_cast<uint32_t>(batch.starts[first + count] - batch.starts[first]);
}

// Each thread's share of the tokens, in whole products, split evenly where it is too large.
uint32_t tokens_of_task(uint32_t tokens, uint32_t threads, const Kernels& kernels) {
  const size_t share = round_up(divide_up(tokens, threads), std::max(2u, kernels.max_tiles) * kTileTokens);
  const auto most = static_cast<uint32_t>(std::min<size_t>(share, kMostTokensOfTask));
  return static_cast<uint32_t>(round_up(divide_up(tokens, divide_up(tokens, most)), 2 * kTileTokens));
}

// Hidden states between layers.
struct Rows {
  uint32_t count;
  size_t hidden_stride, bytes_stride;
  Buffer<float> hidden;   // [count][hidden]: the input of a layer; residuals are added in place
  Buffer<uint8_t> input;  // [count][hidden]: the same, quantized for the next linear

  Rows(uint32_t count, uint32_t width)
      : count(count),
        hidden_stride(round_up(width, kPanelRows)),
        bytes_stride(round_up(width, kColumnPad)),
        hidden(count * hidden_stride),
        input(count * bytes_stride) {}
};

class Pass {
 public:
  Pass(const OpenModel& model, const Batch& batch, uint32_t first, uint32_t count, uint32_t threads, float* logits)
      : model_(model),
        record_(*model.record),
        kernels_(*model.kernels),
        batch_(batch),
        first_text_(first),
        text_count_(count),
        first_token_(batch.starts[first]),
        threads_(threads),
        tokens_of_task_(tokens_of_task(token_count(batch, first, count), threads, *model.kernels)),
        first_only_(record_.head_tokens == kFirstToken),
        logits_(logits + (first_only_ ? first : batch.starts[first] - batch.starts[0]) * record_.labels),
        all_(token_count(batch, first, count), record_.hidden),
        leading_(first_only_ ? count : 0, record_.hidden),
        queries_(all_.count * all_.bytes_stride),
        keys_(all_.count * all_.bytes_stride),
        values_(all_.count * all_.bytes_stride),
        context_(all_.count * all_.bytes_stride),
        intermediate_stride_(round_up(record_.intermediate, kColumnPad)),
        intermediate_(all_.count * intermediate_stride_) {
    uint32_t longest = 0;
    for (uint32_t text = 0; text < count; ++text) longest = std::max(longest, length_of(text));
    scratch_size_ = AttentionScratch(longest, record_.hidden / record_.heads).size;
    scratch_ = Buffer<uint8_t>(scratch_size_ * threads);
    size_t widest = round_up(std::max(record_.hidden, record_.embedding), kColumnPad);
    for (const OpenLinear& linear : model.head) widest = std::max(widest, round_up(linear.weights.rows, kColumnPad));
    head_stride_ = widest;
    head_ = Buffer<float>(2 * head_stride_ * head_rows().count);
    head_input_ = Buffer<uint8_t>(head_stride_ * head_rows().count);
    if (kernels_.arrange != nullptr) {
      const uint32_t most = std::max({record_.hidden, record_.intermediate, record_.embedding});
      arranged_size_ = ArrangedInputs::size(tokens_of_task_, static_cast<uint32_t>(std::max<size_t>(most, widest)));
      arranged_ = Buffer<uint8_t>(arranged_size_ * threads);
    }
    embedded_stride_ = round_up(record_.embedding, kColumnPad);
    if (model.projection.weights.rows != 0) {
      embedded_ = Buffer<float>(embedded_stride_ * all_.count);
      embedded_input_ = Buffer<uint8_t>(embedded_stride_ * all_.count);
    }
  }

  void run() {
    Pool::instance().run(threads_, [this](Team::Member& team, uint32_t thread) {
      const KernelScope scope(kernels_);
      embed(team);
      for (uint32_t i = 0; i < record_.layers; ++i) encode(team, thread, i);
      apply_head(team);
    });
  }

 private:
  uint32_t length_of(uint32_t text) const {
    return static_cast<uint32_t>(batch_.starts[first_text_ + text + 1] - batch_.starts[first_text_ + text]);
  }
  uint32_t start_of(uint32_t text) const {
    return static_cast<uint32_t>(batch_.starts[first_text_ + text] - first_token_);
  }

  // --- embeddings ---

  void embed(Team::Member& team) {
    const bool projected = model_.projection.weights.rows != 0;
    const Layer& first = *model_.layers[0].record;
    team.step(all_.count, [&](uint32_t token) {
      float* row = projected ? &embedded_[token * embedded_stride_] : &all_.hidden[token * all_.hidden_stride];
      const int64_t at = first_token_ + token;
      std::fill_n(row, record_.embedding, 0.0f);
      add_row(model_.words, batch_.ids[at], row);
      if (model_.types.count != 0) add_row(model_.types, batch_.types == nullptr ? 0 : batch_.types[at], row);
      add_row(model_.positions, batch_.positions[at], row);
      kernels_.normalize(row, record_.embedding, model_.embedding_norm.weight, model_.embedding_norm.bias,
                         record_.epsilon, projected ? record_.projection_input : first.input,
                         projected ? &embedded_input_[token * embedded_stride_]
                                   : &all_.input[token * all_.bytes_stride]);
    });
    if (!projected) return;
    any_to_float(team, model_.projection,
                 {embedded_.data(), embedded_stride_, embedded_input_.data(), embedded_stride_}, all_.count,
                 all_.hidden.data(), all_.hidden_stride);
    team.step(all_.count, [&](uint32_t token) {
      kernels_.quantize(&all_.hidden[token * all_.hidden_stride], record_.hidden, first.input,
                        &all_.input[token * all_.bytes_stride]);
    });
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

  // --- linears ---

  // A product with quantized tokens, in tasks: blocks of panels by blocks of tokens. Tasks with the same tokens are
  // adjacent, so that a thread's range of a step has about the same tokens in all steps.
  struct Product {
    const OpenLinear& linear;
    const uint8_t* x;
    size_t stride;
    uint32_t tokens;

    uint32_t panels() const { return panels_of(linear.weights.rows); }
    uint32_t panel_blocks() const { return divide_up(panels(), kPanelsOfTask); }
  };

  // Where the result of a product goes: as float, into `out` or added to it,
  struct FloatResult {
    bool add;
    float* out;
    size_t stride;
  };
  // or quantized, after an activation function.
  struct IntegerResult {
    uint32_t activation;
    Grid grid;
    bool is_signed;
    uint8_t* out;
    size_t stride;
  };

  void finish(const OpenLinear& linear, const FloatResult& result, uint32_t row, uint32_t token, uint32_t count,
              const Sums& sums) const {
    kernels_.dequantize(sums, count, linear.scales + row, linear.biases + row, result.add,
                        result.out + token * result.stride + row, result.stride);
  }
  void finish(const OpenLinear& linear, const IntegerResult& result, uint32_t row, uint32_t token, uint32_t count,
              const Sums& sums) const {
    kernels_.requantize(sums, count, linear.scales + row, linear.biases + row, result.activation, result.grid,
                        result.is_signed, result.out + token * result.stride + row, result.stride);
  }

  // One task; `inputs` are of the thread and the step.
  template <typename Result>
  void multiply(const Product& product, const Result& result, uint32_t panel_block, uint32_t token_block,
                ArrangedInputs& inputs) const {
    const OpenLinear& linear = product.linear;
    const uint32_t first_panel = panel_block * kPanelsOfTask;
    const uint32_t last_panel = std::min(first_panel + kPanelsOfTask, product.panels());
    const uint32_t first = token_block * tokens_of_task_;
    const uint32_t last = std::min(first + tokens_of_task_, product.tokens);
    inputs.set(linear.weights, product.x + first * product.stride, product.stride, last - first);
    Sums sums;
    // The panel's weights stay in the L1 cache for two products, and their tokens for all panels of the task.
    const uint32_t most = 2 * kernels_.max_tiles * kTileTokens;
    for (uint32_t pair = first; pair < last; pair += most)
      for (uint32_t panel = first_panel; panel < last_panel; ++panel)
        for (uint32_t token = pair, count; token < std::min(pair + most, last); token += count) {
          const uint32_t row = panel * kPanelRows;
          count = kernels_.next_tokens(std::min(pair + most, last) - token);
          kernels_.multiply(linear.weights, panel, inputs.at(token - first), product.stride, count,
                            linear.offsets + row, sums);
          finish(linear, result, row, token, count, sums);
        }
  }

  // For a step; what an earlier one has arranged may have changed.
  ArrangedInputs arranged_inputs(const Team::Member& team) const {
    return {kernels_, arranged_.data() + team.thread() * arranged_size_};
  }

  void to_float(Team::Member& team, const Product& product, const FloatResult& result) const {
    const uint32_t blocks = product.panel_blocks();
    ArrangedInputs inputs = arranged_inputs(team);
    team.step(blocks * divide_up(product.tokens, tokens_of_task_),
              [&](uint32_t task) { multiply(product, result, task % blocks, task / blocks, inputs); });
  }

  // The inputs of a linear in float or int8: the same rows as floats, and quantized.
  struct AnyInput {
    const float* floats;
    size_t stride;
    const uint8_t* bytes;
    size_t bytes_stride;
  };

  void any_to_float(Team::Member& team, const OpenLinear& linear, const AnyInput& x, uint32_t rows, float* out,
                    size_t out_stride) {
    if (linear.weights.format != kFloat)
      return to_float(team, {linear, x.bytes, x.bytes_stride, rows}, {false, out, out_stride});
    team.step(panels_of(linear.weights.rows), [&](uint32_t panel) {
      kernels_.multiply_floats(linear.weights, panel, x.floats, x.stride, rows, linear.biases + panel * kPanelRows,
                               out + size_t{panel} * kPanelRows, out_stride);
    });
  }

  struct IntegerProduct {
    Product product;
    IntegerResult result;
  };

  // Several products with the same tokens, in one step.
  template <size_t kCount>
  void to_integers(Team::Member& team, const IntegerProduct (&products)[kCount]) const {
    uint32_t blocks = 0;
    for (const IntegerProduct& one : products) blocks += one.product.panel_blocks();
    ArrangedInputs inputs = arranged_inputs(team);
    team.step(blocks * divide_up(products[0].product.tokens, tokens_of_task_), [&](uint32_t task) {
      const IntegerProduct* one = products;
      uint32_t block = task % blocks;
      for (; block >= one->product.panel_blocks(); ++one) block -= one->product.panel_blocks();
      multiply(one->product, one->result, block, task / blocks, inputs);
    });
  }

  // --- a layer ---

  void encode(Team::Member& team, uint32_t thread, uint32_t index) {
    const OpenLayer& layer = model_.layers[index];
    const Layer& record = *layer.record;
    const bool is_last = index + 1 == record_.layers;
    // Where only first tokens are classified, the last layer needs the others for keys and values alone.
    const bool first_only = is_last && first_only_;
    if (first_only) keep_first(team);
    Rows& rows = first_only ? leading_ : all_;
    const Product queries{layer.query, rows.input.data(), rows.bytes_stride, rows.count};
    const Product keys{layer.key, all_.input.data(), all_.bytes_stride, all_.count};
    const Product values{layer.value, all_.input.data(), all_.bytes_stride, all_.count};
    const IntegerProduct for_attention[] = {
        {queries, {kNone, record.query_grid, false, queries_.data(), rows.bytes_stride}},
        {keys, {kNone, record.key_grid, true, keys_.data(), all_.bytes_stride}},
        {values, {kNone, record.value_grid, true, values_.data(), all_.bytes_stride}}};
    if (first_only) {
      to_integers(team, {for_attention[0]});
      to_integers(team, {for_attention[1], for_attention[2]});
    } else {
      to_integers(team, for_attention);
    }
    attend(team, thread, record, first_only);
    const FloatResult residual{true, rows.hidden.data(), rows.hidden_stride};
    to_float(team, {layer.attention_output, context_.data(), rows.bytes_stride, rows.count}, residual);
    normalize(team, rows, layer.attention_norm, record.intermediate_input);
    const Product intermediate{layer.intermediate, rows.input.data(), rows.bytes_stride, rows.count};
    to_integers(team, {{intermediate,
                        {record_.activation, record.output_input, false, intermediate_.data(), intermediate_stride_}}});
    to_float(team, {layer.output, intermediate_.data(), intermediate_stride_, rows.count}, residual);
    normalize(team, rows, layer.output_norm, is_last ? record_.head[0].input : model_.layers[index + 1].record->input);
  }

  void keep_first(Team::Member& team) {
    team.step(text_count_, [&](uint32_t text) {
      std::memcpy(&leading_.hidden[text * leading_.hidden_stride], &all_.hidden[start_of(text) * all_.hidden_stride],
                  sizeof(float) * record_.hidden);
      std::memcpy(&leading_.input[text * leading_.bytes_stride], &all_.input[start_of(text) * all_.bytes_stride],
                  record_.hidden);
    });
  }

  void attend(Team::Member& team, uint32_t thread, const Layer& record, bool first_only) {
    const uint32_t head_size = record_.hidden / record_.heads;
    team.step(text_count_ * record_.heads, [&](uint32_t head) {
      const uint32_t text = head / record_.heads, start = start_of(text);
      const size_t column = size_t{head % record_.heads} * head_size, stride = all_.bytes_stride;
      const uint32_t row = first_only ? text : start;
      AttentionTask task{};
      task.queries = &queries_[row * stride + column];
      task.keys = &keys_[start * stride + column];
      task.values = &values_[start * stride + column];
      task.context = &context_[row * stride + column];
      task.query_stride = task.stride = task.context_stride = stride;
      task.tokens = length_of(text);
      task.query_count = first_only ? 1 : task.tokens;
      task.head_size = head_size;
      task.query_grid = record.query_grid;
      task.probabilities_grid = record.probabilities_grid;
      task.context_grid = record.attention_output_input;
      task.score_scale = record.query_grid.scale * record_.score_scale * record.key_grid.scale;
      task.context_scale = record.probabilities_grid.scale * record.value_grid.scale;
      kernels_.attend(task, &scratch_[thread * scratch_size_]);
    });
  }

  // rows.hidden = norm(rows.hidden), and rows.input the same, quantized.
  void normalize(Team::Member& team, Rows& rows, const OpenNorm& norm, Grid grid) {
    team.step(rows.count, [&](uint32_t row) {
      kernels_.normalize(&rows.hidden[row * rows.hidden_stride], record_.hidden, norm.weight, norm.bias,
                         record_.epsilon, grid, &rows.input[row * rows.bytes_stride]);
    });
  }

  // --- the head ---

  Rows& head_rows() { return first_only_ ? leading_ : all_; }

  void apply_head(Team::Member& team) {
    Rows& rows = head_rows();
    AnyInput x{rows.hidden.data(), rows.hidden_stride, rows.input.data(), rows.bytes_stride};
    for (uint32_t i = 0; i < record_.head_linears; ++i) {
      const HeadLinear& head = record_.head[i];
      float* const out = &head_[i % 2 * head_stride_ * rows.count];
      any_to_float(team, model_.head[i], x, rows.count, out, head_stride_);
      const bool is_last = i + 1 == record_.head_linears;
      team.step(rows.count, [&](uint32_t index) {
        float* row = out + index * head_stride_;
        kernels_.activate(row, head.linear.rows, head.activation);
        if (is_last)
          std::memcpy(logits_ + size_t{index} * record_.labels, row, sizeof(float) * record_.labels);
        else
          kernels_.quantize(row, head.linear.rows, record_.head[i + 1].input, &head_input_[index * head_stride_]);
      });
      x = {out, head_stride_, head_input_.data(), head_stride_};
    }
  }

  const OpenModel& model_;
  const Model& record_;
  const Kernels& kernels_;
  const Batch& batch_;
  const uint32_t first_text_, text_count_;
  const int64_t first_token_;
  const uint32_t threads_, tokens_of_task_;
  const bool first_only_;
  float* const logits_;
  Rows all_, leading_;
  Buffer<uint8_t> queries_, keys_, values_, context_;
  size_t intermediate_stride_;
  Buffer<uint8_t> intermediate_;
  size_t scratch_size_ = 0, arranged_size_ = 0, head_stride_ = 0, embedded_stride_ = 0;
  Buffer<uint8_t> scratch_, arranged_, head_input_, embedded_input_;
  Buffer<float> head_, embedded_;
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
