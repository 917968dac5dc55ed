// The engine under the sanitizers: random models run from many threads, and damaged models opened.
//
//   stress products     products of all instruction sets and formats of weights, held against the portable kernels'
//   stress answers      small models: the same answers in all formats, in batches, alone and from many threads
//   stress damage       damaged models and impossible tokens
//   stress teams        steps of teams whose threads are held up at random
//   stress time L ...   seconds of a BERT base at 90 % zeros for texts of L tokens, on 1 and on 2 threads
//
// The first three take the name of an instruction set, to keep to it.
//
// tests/native/test_native_sanitizers.py builds it together with the engine's sources; with RESPARSE_EMULATE_TILES, the
// kernels for AMX run on any processor with AVX-512 VBMI2, and with RESPARSE_EMULATE_AVX_VNNI those for AVX-VNNI on any
// with AVX-512 VNNI.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine.h"
#include "instruction_sets.h"
#include "kernels/bfloats.h"
#include "kernels/kernels.h"
#include "random_models.h"
#include "thread_pool.h"
#include "weight_formats.h"

// Threads that run a model at once. Under an emulator of another processor they would show nothing that they do not
// show without, and take minutes.
#ifndef RESPARSE_CALLERS
#define RESPARSE_CALLERS 4
#endif
// Texts of a batch, and the length of the longest: less of both where every instruction is dear.
#ifndef RESPARSE_TEXTS
#define RESPARSE_TEXTS 12
#endif
#ifndef RESPARSE_LONGEST
#define RESPARSE_LONGEST 211
#endif

using namespace resparse;

namespace {

struct Batch {
  std::vector<int32_t> ids, types, positions;
  std::vector<int64_t> starts{0};

  void add(uint32_t length, std::mt19937& random) {
    for (uint32_t i = 0; i < length; ++i) {
      ids.push_back(static_cast<int32_t>(random() % 500));
      types.push_back(static_cast<int32_t>(random() % 2));
      positions.push_back(static_cast<int32_t>(i));
    }
    starts.push_back(static_cast<int64_t>(ids.size()));
  }
  int32_t texts() const { return static_cast<int32_t>(starts.size()) - 1; }
};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "FAILED: %s (%s)\n", what, resparse_error());
  std::exit(1);
}

// Logits of a batch before its text `texts`.
size_t logits_before(const Batch& batch, int32_t texts, const Sizes& sizes) {
  return sizes.labels * static_cast<size_t>(sizes.head_tokens == kEveryToken ? batch.starts[texts] : texts);
}

std::vector<float> run(void* model, const Batch& batch, const Sizes& sizes, int threads) {
  std::vector<float> logits(logits_before(batch, batch.texts(), sizes));
  if (resparse_run(model, batch.ids.data(), batch.types.data(), batch.positions.data(), batch.starts.data(),
                   batch.texts(), threads, logits.data()) != 0)
    fail("a run");
  return logits;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), sizeof(float) * a.size()) == 0;
}

Batch some_texts(uint32_t count, uint32_t longest, uint32_t seed) {
  std::mt19937 random(seed);
  Batch batch;
  for (uint32_t i = 0; i < count; ++i) batch.add(1 + static_cast<uint32_t>(random()) % longest, random);
  return batch;
}

// The same texts in one batch, one by one, and from `at_once` threads: the same answers, bit for bit. Returns them.
std::vector<float> check_runs(const Sizes& sizes, uint32_t isa, uint32_t format, int at_once = RESPARSE_CALLERS) {
  const Builder builder(sizes, isa, format, 7);
  const Aligned block(builder.bytes());
  void* const model = resparse_open(block.memory, block.size);
  if (model == nullptr) fail("opening a model");
  Batch batch = some_texts(RESPARSE_TEXTS, RESPARSE_LONGEST / 3, 3);
  std::mt19937 random(3);
  batch.add(RESPARSE_LONGEST, random);
  const std::vector<float> alone = run(model, batch, sizes, 1);
  for (const float value : alone)
    if (!std::isfinite(value)) fail("a logit that is not finite");
  if (!same(alone, run(model, batch, sizes, 3))) fail("three threads answer otherwise");
  for (int32_t i = 0; i < batch.texts(); i += 6) {
    Batch one;
    const auto from = static_cast<size_t>(batch.starts[i]), to = static_cast<size_t>(batch.starts[i + 1]);
    one.ids.assign(batch.ids.begin() + from, batch.ids.begin() + to);
    one.types.assign(batch.types.begin() + from, batch.types.begin() + to);
    one.positions.assign(batch.positions.begin() + from, batch.positions.begin() + to);
    one.starts.push_back(static_cast<int64_t>(one.ids.size()));
    const std::vector<float> expected(alone.begin() + logits_before(batch, i, sizes),
                                      alone.begin() + logits_before(batch, i + 1, sizes));
    if (!same(expected, run(model, one, sizes, 2))) fail("a text alone is answered otherwise");
  }
  std::vector<std::thread> callers;
  for (int caller = 0; caller < at_once; ++caller)
    callers.emplace_back([&] {
      if (!same(alone, run(model, batch, sizes, 2))) fail("callers at once are answered otherwise");
    });
  for (std::thread& caller : callers) caller.join();
  resparse_close(model);
  return alone;
}

// Products of random matrices with inputs that have not a byte more than kernels may read, begun with offsets or with
// 0.
void check_products(uint32_t isa, uint32_t format) {
  std::mt19937 random(17);
  const Kernels &kernels = kernels_of(isa), &reference = kernels_of(kPortable);
  const KernelScope scope(kernels);
  for (int round = 0; round < 150; ++round) {
    const uint32_t rows = 1 + random() % 40, columns = 1 + random() % (round % 2 == 0 ? 70 : 1700);
    const uint32_t tokens = 1 + random() % (kernels.max_tiles * kTileTokens), density = 1 + random() % 100;
    std::vector<int8_t> weights(size_t{rows} * columns);
    for (int8_t& weight : weights)
      if (random() % 100 < density) weight = round == 0 ? -128 : static_cast<int8_t>(random());
    const auto pack_as = [&](uint32_t as) {
      std::vector<uint8_t> packed(packed_size(as, weights.data(), rows, columns));
      pack(as, weights.data(), rows, columns, packed.data());
      return packed;
    };
    const Aligned packed(pack_as(format)), dense(pack_as(kDense));
    const size_t width = round_up(columns, kColumnPad), stride = width + kColumnPad * (random() % 3);
    std::vector<uint8_t> bytes(stride * (tokens - 1) + width), flipped;
    for (uint8_t& byte : bytes) byte = round == 0 ? 255 : static_cast<uint8_t>(random());
    for (const uint8_t byte : bytes) flipped.push_back(byte ^ kernels.input_flip);
    const Aligned x(bytes), kept(flipped);
    int32_t offsets[kPanelRows];
    for (int32_t& offset : offsets) offset = static_cast<int32_t>(random() % (1 << 20));
    const int32_t* const begin = round % 3 == 0 ? nullptr : offsets;
    const auto in = [&](const Aligned& block) { return static_cast<const uint8_t*>(block.memory); };
    const PackedMatrix found = view(format, in(packed), packed.size, rows, columns);
    const PackedMatrix wanted = view(kDense, in(dense), dense.size, rows, columns);
    Buffer<uint8_t> memory(ArrangedInputs::size(tokens, columns));
    ArrangedInputs inputs(kernels, memory.data());
    inputs.set(found, in(kept), stride, tokens);
    for (uint32_t panel = 0; panel < panels_of(rows); ++panel) {
      Sums sums, expected;
      kernels.multiply(found, panel, inputs.at(0), stride, tokens, begin, sums);
      // The reference takes one tile.
      for (uint32_t token = 0; token < tokens; token += kTileTokens) {
        const uint32_t count = std::min(kTileTokens, tokens - token);
        reference.multiply(wanted, panel, in(x) + token * stride, stride, count, begin, expected);
        if (std::memcmp(sums.values[token], expected.values, count * sizeof expected.values[0]) != 0)
          fail("a product that is not exact");
      }
    }
  }
}

// Blocks cut short or with changed bytes either open, and then run, or are refused.
void check_damage(const Sizes& sizes, uint32_t isa, uint32_t format, int rounds) {
  const Builder builder(sizes, isa, format, 11);
  const Batch batch = some_texts(3, 9, 5);
  std::mt19937 random(13);
  std::vector<float> logits(3 * (size_t{1} << 20));  // once: most of a round would be the making of it
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<uint8_t> bytes = builder.bytes();
    if (round % 4 == 0) {
      bytes.resize(random() % bytes.size());
    } else {
      // Records are where damage can lead astray; the weights between them only change the answer.
      const bool in_header = round % 4 == 1;
      const size_t records = sizeof(Layer) * sizes.layers;
      const size_t from = in_header ? 0 : round % 4 == 2 ? bytes.size() - round_up(records, kAlignment) : 0;
      const size_t width = in_header ? sizeof(Model) : round % 4 == 2 ? records : bytes.size();
      for (uint32_t i = 0; i <= random() % 3; ++i) bytes[from + random() % width] = static_cast<uint8_t>(random());
    }
    const Aligned block(bytes);
    void* const model = resparse_open(block.memory, block.size);
    if (model == nullptr) {
      if (resparse_error()[0] == '\0') fail("a refusal without a reason");
      ++refused;
      continue;
    }
    resparse_run(model, batch.ids.data(), batch.types.data(), batch.positions.data(), batch.starts.data(),
                 batch.texts(), 1, logits.data());
    resparse_close(model);
  }
  std::printf("%d of %d damaged models refused\n", refused, rounds);
}

// Every activation function from -20 to 20, against its definition in double precision.
void check_activations(uint32_t isa) {
  const auto wanted = [&](uint32_t activation, double x) {
    switch (activation) {
      case kGelu:
        return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5)));
      case kGeluTanh:
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      case kRelu:
        return std::max(x, 0.0);
      case kTanh:
        return std::tanh(x);
      case kSilu:
        return x / (1 + std::exp(-x));
      default:
        return x;
    }
  };
  constexpr uint32_t kCount = 64 * 1024;
  std::vector<float> row(kCount);
  for (const uint32_t activation : {kNone, kGelu, kGeluTanh, kRelu, kTanh, kSilu}) {
    for (uint32_t i = 0; i < kCount; ++i) row[i] = -20 + 40 * static_cast<float>(i) / kCount;
    const std::vector<float> x = row;
    kernels_of(isa).activate(row.data(), kCount, activation);
    for (uint32_t i = 0; i < kCount; ++i)
      if (!(std::abs(row[i] - wanted(activation, x[i])) <= 1e-6 + 2e-7 * std::abs(x[i]))) {
        std::fprintf(stderr, "activation %u of %.9g is %.9g\n", activation, x[i], row[i]);
        fail("an activation function");
      }
  }
}

void check_bad_tokens(void* model) {
  const int32_t id = 500, position = 512, zero = 0;
  const int64_t starts[] = {0, 1}, none[] = {0, 0};
  float logits[8];
  if (resparse_run(model, &id, nullptr, &zero, starts, 1, 1, logits) == 0) fail("an id out of the vocabulary is taken");
  if (resparse_run(model, &zero, nullptr, &position, starts, 1, 1, logits) == 0) fail("a position too far is taken");
  if (resparse_run(model, &zero, nullptr, &zero, none, 1, 1, logits) == 0) fail("a text without tokens is taken");
}

const Sizes kEven{3, 64, 128, 4, 64, 3, 0.8, 0}, kRagged{2, 72, 100, 6, 40, 5, 0.3, 0};
const Sizes kFloatHead{1, 72, 100, 6, 40, 5, 0.3, kPooler | kClassifier | kProjection};
const Sizes kFloatPooler{1, 64, 128, 4, 64, 3, 0.8, kPooler}, kFloatClassifier{1, 72, 100, 6, 72, 18, 0.3, kClassifier};
const Sizes kTokens{1, 64, 128, 4, 64, 3, 0.8, kPooler, kEveryToken};
// Heads are missing in the second; the third and fourth mix integers and floats; the last two have no grids.
const Sizes kRounded{2, 64, 100, 4, 64, 3, 0.8, 0, kFirstToken, 64, true};
const Sizes kThinned{2, 64, 100, 2, 64, 3, 0.8, 0, kFirstToken, 32};
const Sizes kMixed{2, 72, 100, 6, 72, 3, 0.7, kQuery | kSparse}, kFloats{2, 72, 100, 6, 40, 3, 0.7, kLayers | kQuery};
const Sizes kFloatAttention{2, 72, 100, 2, 72, 3, 0.7, kAttention, kEveryToken, 24};
const Sizes kAllFloats{2, 72, 100, 6, 72, 3, 0.7, kLayers | kQuery | kAttention | kSparse | kPooler | kClassifier};
const Sizes kDynamic{2, 72, 100, 6, 72, 3, 0.7, kByRange | kAttention};
const Sizes kRoundedFloats{2, 72, 100, 6, 72, 3, 0.7, kLayers | kSparse, kFirstToken, 72, true};
// As MPNet's layers and ModernBERT's, in integers and in float.
const Sizes kRelative{2, 64, 100, 4, 64, 3, 0.8, 0, kFirstToken, 64, false, kBiases | kWindows};
const Sizes kRelativeFloats{2, 72, 100, 6, 72, 3, 0.7, kLayers | kQuery | kAttention, kEveryToken, 72, false, kBiases};
const Sizes kGated{3, 64, 100, 2, 64, 3, 0.8, 0, kMeanOfTokens, 64, true,
                   kGates | kRotary | kWindows | kSums | kHeadNorm | kNoPositions};
const Sizes kGatedFloats{3, 72, 100, 6, 72, 3, 0.7, kLayers | kQuery | kAttention | kSparse, kFirstToken, 72, false,
                         kGates | kRotary | kWindows | kSums | kHeadNorm | kNoPositions};
const Sizes kSummed{2, 64, 128, 4, 64, 3, 0.8, 0, kFirstToken, 64, false, kSums};
const Sizes kRoundsAll{2, 72, 100, 6, 40, 3, 0.7, kAttention, kFirstToken, 72, true, 0, true};
const Sizes kRoundsAllFloats{2, 72, 100, 2, 72, 3, 0.7, kAttention | kLayers | kSparse, kEveryToken, 72, true, 0, true};
const Sizes kForms[] = {kRoundsAll, kRoundsAllFloats, kRelative, kRelativeFloats, kGated, kGatedFloats, kSummed,
                        kRounded, kThinned, kMixed, kFloats, kFloatAttention, kAllFloats, kDynamic, kRoundedFloats};

// The formats that an instruction set reads, the sparsest last.
std::vector<uint32_t> formats_of(uint32_t isa) {
  std::vector<uint32_t> found;
  for (const uint32_t format : {kDense, kDenseOctets, kSlots32, kSlots64, kMask64, kCsr4})
    if (reads_format(isa, format)) found.push_back(format);
  return found;
}

// Of the command line: the only instruction set, by name; null for all.
const char* only = nullptr;

// Calls body(instruction set, format of weights).
template <typename Body>
int for_each_isa(const Body& body) {
  for (uint32_t i = 0; const InstructionSet* one = resparse_instruction_set(i); ++i) {
    if ((resparse_isas() & one->isa) == 0 || (only != nullptr && std::strcmp(one->name, only) != 0)) continue;
    for (const uint32_t format : formats_of(one->isa)) body(one->isa, format);
    std::printf("%s: ok\n", one->name);
  }
  return 0;
}

// Whether the instruction sets differ in nothing but integer products: AMX from AVX-512, and all ARM ones where this is
// built with portable kernels of their width.
bool computes_as_the_one_before(uint32_t isa) {
#ifdef RESPARSE_PORTABLE_LANES
  if ((isa & (kNeon | kDotProd | kI8mm)) != 0) return true;
#endif
  return (isa & (kAmx | kDotProd | kI8mm)) != 0;
}

float as_bfloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Products of bfloat16 are those of the rounded numbers, up to the order of the sums.
void check_bfloats() {
  if (!has_bfloats()) return;
  std::mt19937 random(29);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 60; ++round) {
    const uint32_t rows = 1 + random() % 40, columns = 1 + random() % (round % 2 == 0 ? 40 : 900);
    const uint32_t tokens = 1 + random() % 20;
    const size_t padded = round_up(rows, kPanelRows), pairs = round_up(columns, 2) / 2;
    const size_t stride = round_up(columns, kPanelRows);
    std::vector<float> weights(padded * 2 * pairs), x(tokens * stride), biases(padded), out(tokens * padded, 0.5f);
    for (uint32_t row = 0; row < rows; ++row)
      for (uint32_t column = 0; column < columns; ++column)
        weights[row * 2 * pairs + column] = as_bfloat(normal(random));
    for (float& value : x) value = normal(random);
    for (float& value : biases) value = normal(random);
    std::vector<uint8_t> bytes(sizeof(uint16_t) * padded * 2 * pairs);
    for (size_t row = 0; row < padded; ++row)
      for (size_t column = 0; column < 2 * pairs; ++column) {
        const size_t place = ((row / kPanelRows * pairs + column / 2) * kPanelRows + row % kPanelRows) * 2 + column % 2;
        std::memcpy(&bytes[2 * place], reinterpret_cast<uint8_t*>(&weights[row * 2 * pairs + column]) + 2, 2);
      }
    const Aligned packed(bytes);
    const PackedMatrix matrix =
        view_floats(kBfloat16, static_cast<const uint8_t*>(packed.memory), packed.size, rows, columns);
    std::vector<uint16_t> inputs(tokens * stride);
    for (uint32_t token = 0; token < tokens; ++token)
      to_bfloats(&x[token * stride], columns, &inputs[token * stride]);
    const bool add = round % 3 == 0;
    for (uint32_t panel = 0; panel < panels_of(rows); ++panel)
      multiply_bfloats(matrix, panel, inputs.data(), stride, tokens, &biases[panel * kPanelRows], add,
                       &out[panel * kPanelRows], padded);
    for (uint32_t token = 0; token < tokens; ++token)
      for (uint32_t row = 0; row < rows; ++row) {
        double wanted = biases[row] + (add ? 0.5 : 0.0), size = 1;
        for (uint32_t column = 0; column < columns; ++column) {
          const double part = double{as_bfloat(x[token * stride + column])} * weights[row * 2 * pairs + column];
          wanted += part;
          size += std::fabs(part);
        }
        if (std::fabs(out[token * padded + row] - wanted) > 1e-6 * size) fail("products of bfloat16");
      }
  }
}

int products() {
  check_bfloats();
  return for_each_isa(check_products);
}

int answers() {
  check_runs(kTokens, kPortable, kSlots64);
  std::vector<float> expected[2];
  return for_each_isa([&](uint32_t isa, uint32_t format) {
    const bool is_first = format == formats_of(isa).front();
    if (is_first) check_activations(isa);
    for (const bool is_even : {true, false}) {
      const std::vector<float> found = check_runs(is_even ? kEven : kRagged, isa, format);
      if (is_first && !computes_as_the_one_before(isa))
        expected[is_even] = found;
      else if (!same(found, expected[is_even]))
        fail("weights in another format, or the same computation, are answered otherwise");
    }
    if (!is_first)
      for (const Sizes& sizes : {kFloatHead, kFloatPooler, kFloatClassifier}) check_runs(sizes, isa, format);
    // What these differ in does not depend on the format of integers.
    if (format == formats_of(isa).back())
      for (const Sizes& sizes : kForms) check_runs(sizes, isa, format, std::min(2, RESPARSE_CALLERS));
  });
}

int damage() {
  const Builder builder(kEven, kPortable, kSlots64, 1);
  const Aligned block(builder.bytes());
  void* const model = resparse_open(block.memory, block.size);
  if (model == nullptr) fail("opening a model");
  check_bad_tokens(model);
  resparse_close(model);
  check_damage(kTokens, kPortable, kSlots64, 400);
  return for_each_isa([](uint32_t isa, uint32_t format) {
    if (is_dense(format)) return;
    for (const Sizes& sizes : {kRagged, kFloatHead}) check_damage(sizes, isa, format, 400);
    if (format == formats_of(isa).back())
      for (const Sizes& sizes : kForms) check_damage(sizes, isa, format, 100);
  });
}

// A run whose tasks are held up at random, some for longer than a waiting thread stays awake: threads leave the team and
// join it again. Each task is to be done once, and after all tasks of the step before.
void check_team(Pool& pool, uint32_t threads, uint32_t seed) {
  constexpr uint32_t kSteps = 120, kTasks = 7;
  std::vector<std::atomic<uint32_t>> done(kSteps);
  std::atomic<uint32_t> early{0};
  pool.run(threads, [&](Team::Member& team, uint32_t) {
    for (uint32_t step = 0; step < kSteps; ++step)
      team.step(kTasks, [&](uint32_t task) {
        if (step > 0 && done[step - 1] != kTasks) ++early;
        std::mt19937 random(seed + step * kTasks + task);
        if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 400));
        ++done[step];
      });
  });
  if (early != 0) fail("a task before the end of the step before it");
  for (const std::atomic<uint32_t>& count : done)
    if (count != kTasks) fail("a task that is not done once");
}

// Threads that wait for one that is held up use no core.
void check_sleep(Pool& pool) {
  const std::clock_t began = std::clock();
  pool.run(4, [&](Team::Member& team, uint32_t) {
    for (int step = 0; step < 3; ++step)
      team.step(1, [](uint32_t) { std::this_thread::sleep_for(std::chrono::milliseconds(100)); });
  });
  if (std::clock() - began > CLOCKS_PER_SEC * 40 / 1000) fail("waiting threads that do not sleep");
}

int teams() {
  Pool pool;
  check_sleep(pool);
  for (const uint32_t threads : {1, 2, 3, 8}) {
    std::vector<std::thread> callers;
    for (uint32_t caller = 0; caller < 3; ++caller)
      callers.emplace_back([&, caller] {
        for (uint32_t i = 0; i < 4; ++i) check_team(pool, threads, 1000 * (4 * caller + i));
      });
    for (std::thread& caller : callers) caller.join();
    check_team(pool, threads, threads);
  }
  std::printf("teams: ok\n");
  return 0;
}

double best_seconds(void* model, const Batch& batch, const Sizes& sizes, int threads) {
  double best = 1e9;
  for (int i = 0; i < 15; ++i) {
    const auto began = std::chrono::steady_clock::now();
    run(model, batch, sizes, threads);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  }
  return best;
}

int time(int count, char** lengths) {
  const Sizes base{12, 768, 3072, 12, 768, 4, 0.9, 0};
  uint32_t isa = kPortable;
  for (uint32_t i = 0; const InstructionSet* one = resparse_instruction_set(i); ++i)
    if ((resparse_isas() & one->isa) != 0) isa = one->isa;
  const Builder builder(base, isa, formats_of(isa).back(), 1);
  const Aligned block(builder.bytes());
  void* const model = resparse_open(block.memory, block.size);
  if (model == nullptr) fail("opening a model");
  std::mt19937 random(1);
  for (int i = 0; i < count; ++i) {
    Batch batch;
    batch.add(static_cast<uint32_t>(std::atoi(lengths[i])), random);
    std::printf("%s tokens: %.2f ms on 1 thread, %.2f ms on 2\n", lengths[i],
                1e3 * best_seconds(model, batch, base, 1), 1e3 * best_seconds(model, batch, base, 2));
  }
  resparse_close(model);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Pool::instance().assume_cores(4);
  const std::string command = argc > 1 ? argv[1] : "";
  if (argc == 3 && command != "time") only = argv[2];
  if (argc == 2 || only != nullptr) {
    if (command == "products") return products();
    if (command == "answers") return answers();
    if (command == "damage") return damage();
    if (command == "teams") return teams();
  }
  if (argc > 2 && command == "time") return time(argc - 2, argv + 2);
  std::fprintf(stderr,
               "usage: stress products [ISA] | stress answers [ISA] | stress damage [ISA] | stress teams | "
               "stress time LENGTH ...\n");
  return 2;
}
