#include "model.h"

#include <cmath>
#include <string>

#include "instruction_sets.h"

namespace resparse {
namespace {

[[noreturn]] void damaged(const char* what) { throw Error(std::string("the packed model is damaged: ") + what); }

void check(const Grid& grid, int32_t least) {
  if (!(grid.scale > 0) || !std::isfinite(grid.scale)) damaged("a scale that is not above 0");
  const bool fits = least <= grid.least && grid.least <= grid.zero_point && grid.zero_point <= grid.most &&
                    grid.most <= least + 255;
  if (!fits) damaged("a zero point");
}

// A grid of uint8, which may be none.
Grid checked(const Grid& grid, bool may_lack) {
  if (!may_lack || grid.scale != 0) check(grid, 0);
  return grid;
}

class Opener {
 public:
  Opener(const uint8_t* block, uint64_t size, uint32_t isa) : block_(block), size_(size), isa_(isa) {}

  template <typename T>
  const T* array(uint64_t offset, uint64_t count) const {
    if (offset == 0 || offset % kAlignment != 0) damaged("an offset");
    if (offset > size_ || count > (size_ - offset) / sizeof(T)) damaged("an array reaches out of it");
    return reinterpret_cast<const T*>(block_ + offset);
  }

  OpenLinear linear(const Linear& record, uint32_t rows, uint32_t columns) const {
    if (record.rows != rows || record.columns != columns) damaged("a matrix has another shape than the model");
    OpenLinear opened;
    opened.biases = array<float>(record.biases, round_up(rows, kPanelRows));
    opened.input = checked(record.input, true);
    opened.rounding = checked(record.output, true);
    opened.product = checked(record.product, true);
    const auto* weights = array<uint8_t>(record.weights, record.weights_size);
    if (is_float(record.format)) {
      opened.weights = view_floats(record.format, weights, record.weights_size, rows, columns);
      return opened;
    }
    opened.weights = view(record.format, weights, record.weights_size, rows, columns);
    if (!reads_format(isa_, record.format)) damaged("weights in a form that its kernels do not read");
    opened.scales = array<float>(record.scales, round_up(rows, kPanelRows));
    opened.offsets = array<int32_t>(record.offsets, round_up(rows, kPanelRows));
    return opened;
  }

  const float* table(uint32_t activation, uint64_t offset, const OpenLinear& before) const {
    if (activation != kTable) return nullptr;
    if (before.rounding.scale == 0) damaged("a table of what is not rounded");
    return array<float>(offset, kTableSize);
  }

  OpenNorm norm(const Norm& record, uint32_t width) const {
    return {array<float>(record.weight, width), array<float>(record.bias, width)};
  }

  OpenNorm norm_if_any(const Norm& record, uint32_t width) const {
    return record.weight == 0 ? OpenNorm{} : norm(record, width);
  }

  OpenTable table(const Table& record, uint32_t width) const {
    if (record.count == 0) return {};
    const uint64_t bytes = uint64_t{record.count} * width * (record.scale == 0 ? sizeof(float) : 1);
    return {array<uint8_t>(record.rows, bytes), record.count, record.scale};
  }

 private:
  const uint8_t* block_;
  uint64_t size_;
  uint32_t isa_;
};

void check_sizes(const Model& model) {
  const auto within = [](uint32_t value, uint32_t most) { return value >= 1 && value <= most; };
  if (!within(model.layers, kMaxLayers) || !within(model.hidden, 1 << 16) ||
      !within(model.embedding, 1 << 16) || !within(model.labels, 1 << 20) ||
      !within(model.head_linears, kMaxHeadLinears))
    damaged("its sizes");
  if (model.head_tokens > kMeanOfTokens) damaged("the tokens of its head");
  if (model.added_last > kWordsLast) damaged("the order of its embeddings");
  if (model.projection.rows == 0 && model.embedding != model.hidden) damaged("the width of its embeddings");
  if (!std::isfinite(model.epsilon)) damaged("its numbers");
}

OpenLayer open_layer(const Opener& opener, uint32_t hidden, const Layer& record) {
  const uint32_t width = record.query.rows, intermediate = record.intermediate.rows;
  const bool in_integers = record.attention == kIntegerAttention;
  if (record.attention > kAttentionByRange) damaged("its attention");
  if (in_integers) {
    check(record.query_grid, 0);
    check(record.probabilities_grid, 0);
    check(record.key_grid, -128);
    check(record.value_grid, -128);
    if (record.key_grid.zero_point != 0 || record.value_grid.zero_point != 0) damaged("a zero point");
  } else {
    for (const Grid* grid : {&record.query_grid, &record.key_grid, &record.probabilities_grid, &record.value_grid})
      checked(*grid, true);
    for (const Grid& grid : record.score_grids) checked(grid, true);
    checked(record.softmax_grid, true);
    checked(record.context_grid, true);
  }
  if (record.heads == 0 || width % record.heads != 0 || width / record.heads % 4 != 0) damaged("the size of its heads");
  if (!(record.score_scale > 0) || !std::isfinite(record.score_scale)) damaged("its numbers");
  OpenLayer layer;
  layer.record = &record;
  layer.by_range = record.attention == kAttentionByRange;
  layer.query = opener.linear(record.query, width, hidden);
  layer.key = opener.linear(record.key, width, hidden);
  layer.value = opener.linear(record.value, width, hidden);
  layer.attention_output = opener.linear(record.attention_output, hidden, width);
  layer.intermediate = opener.linear(record.intermediate, intermediate, hidden);
  layer.output = opener.linear(record.output, hidden, intermediate);
  layer.attention_norm = opener.norm(record.attention_norm, hidden);
  layer.output_norm = opener.norm(record.output_norm, hidden);
  layer.table = opener.table(record.activation, record.table, layer.intermediate);
  if (record.gate.rows != 0) layer.gate = opener.linear(record.gate, intermediate, hidden);
  if (record.frequencies != 0) layer.frequencies = opener.array<float>(record.frequencies, width / record.heads / 2);
  if (record.bias != 0) {
    if (record.reach == 0) damaged("how far its positions reach");
    layer.bias = opener.array<float>(record.bias, record.heads * bias_stride(record.reach));
  }
  layer.is_integer = in_integers && layer.table == nullptr && !layer.is_gated() && layer.frequencies == nullptr &&
                     record.query.input == record.key.input && record.query.input == record.value.input;
  for (const OpenLinear* one : layer.linears()) {
    if (one->weights.rows == 0) continue;
    layer.is_integer =
        layer.is_integer && !is_float(one->weights.format) && one->input.scale != 0 && one->product.scale == 0;
    layer.by_range = layer.by_range || (!is_float(one->weights.format) && one->input.scale == 0);
  }
  for (const Grid* grid :
       {&record.attention_residual, &record.attention_sum, &record.output_residual, &record.output_sum})
    layer.is_integer = layer.is_integer && checked(*grid, true).scale == 0;
  return layer;
}

}  // namespace

OpenModel open_model(const uint8_t* block, uint64_t size) {
  if (reinterpret_cast<uintptr_t>(block) % kAlignment != 0)
    throw Error("the packed model must lie at a multiple of 64");
  if (size < sizeof(Model)) damaged("it is cut short");
  const auto* record = reinterpret_cast<const Model*>(block);
  if (record->magic != kMagic || record->version != kVersion) throw Error("this is no packed model of this version");
  if (record->size != size) damaged("it is cut short");
  check_sizes(*record);

  const Opener opener(block, size, record->isa);
  OpenModel model;
  model.record = record;
  model.kernels = &kernels_of(record->isa);
  model.words = opener.table(record->words, record->embedding);
  model.positions = opener.table(record->positions, record->embedding);
  model.types = opener.table(record->types, record->embedding);
  if (model.words.count == 0) damaged("its embeddings");
  checked(record->first_sum, true);
  checked(record->embedding_sum, true);
  model.embedding_norm = opener.norm(record->embedding_norm, record->embedding);
  if (record->projection.rows != 0)
    model.projection = opener.linear(record->projection, record->hidden, record->embedding);
  const Layer* layers = opener.array<Layer>(record->layer_records, record->layers);
  for (uint32_t i = 0; i < record->layers; ++i) model.layers.push_back(open_layer(opener, record->hidden, layers[i]));
  uint32_t width = record->hidden;
  for (uint32_t i = 0; i < record->head_linears; ++i) {
    const HeadLinear& head = record->head[i];
    model.head.push_back(opener.linear(head.linear, head.linear.rows, width));
    model.head_norms.push_back(opener.norm_if_any(head.norm, head.linear.rows));
    model.tables.push_back(opener.table(head.activation, head.table, model.head.back()));
    width = head.linear.rows;
  }
  if (width != record->labels) damaged("its labels");
  return model;
}

}  // namespace resparse
