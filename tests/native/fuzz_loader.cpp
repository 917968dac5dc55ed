// The loader of packed models under libFuzzer: whatever the bytes are, they are refused or run, within their memory.
//
// tests/native/test_native_fuzz.py builds it with clang and the engine's sources, with the address and the
// undefined-behavior sanitizers; `make stress` runs it for minutes. Without a corpus it starts with models of its own:
//
//   fuzz_loader FOLDER -runs=0     write them into the folder, and end

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "engine.h"
#include "instruction_sets.h"
#include "random_models.h"
#include "weight_formats.h"

using namespace resparse;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace {

// Small, so that a run takes microseconds: integers, floats, a head of its own per token, and all optional parts.
const Sizes kModels[] = {
    {1, 16, 32, 2, 16, 3, 0.5, 0},
    {2, 16, 32, 2, 16, 2, 0.5, kPooler | kClassifier | kSparse},
    {1, 16, 32, 2, 16, 3, 0.5, 0, kEveryToken},
    {2, 16, 32, 2, 16, 2, 0.5, 0, kFirstToken, 16, false, kGates | kRotary | kBiases | kWindows | kHeadNorm},
};
constexpr uint32_t kTokens = 7;

std::vector<std::vector<uint8_t>> models() {
  std::vector<std::vector<uint8_t>> made;
  for (const Sizes& sizes : kModels)
    for (const uint32_t format : {kDense, kSlots64}) made.push_back(Builder(sizes, kPortable, format, 1).bytes());
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* count, char*** words) {
  for (int i = 1; i < *count; ++i) {
    const std::string word = (*words)[i];
    if (word[0] == '-') continue;
    int number = 0;
    for (const std::vector<uint8_t>& bytes : models())
      std::ofstream(word + "/model-" + std::to_string(number++), std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    break;
  }
  return 0;
}

// Mostly in the records, where damage can lead astray; the weights between them only change the answer.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned int seed) {
  std::mt19937 random(seed);
  if (size <= sizeof(Model) || random() % 8 == 0) return LLVMFuzzerMutate(data, size, most);
  const size_t layers = std::min<size_t>(2 * sizeof(Layer), size);
  const bool in_header = random() % 2 == 0;
  const size_t from = in_header ? 0 : size - layers, width = in_header ? sizeof(Model) : layers;
  const uint32_t changes = 1 + static_cast<uint32_t>(random()) % 3;
  for (uint32_t i = 0; i < changes; ++i) {
    // A whole number, or a byte: sizes and offsets are numbers of 4 or 8 bytes.
    const size_t at = from + random() % width / 4 * 4;
    if (at + 4 > size || random() % 2 == 0) {
      data[std::min(at, size - 1)] = static_cast<uint8_t>(random());
      continue;
    }
    const uint32_t values[] = {0, 1, 15, 16, 17, 64, 0x7fffffffu, 0x80000000u, 0xffffffffu, 0xfffffff0u,
                               static_cast<uint32_t>(size), static_cast<uint32_t>(random())};
    std::memcpy(data + at, &values[random() % (sizeof(values) / sizeof(*values))], 4);
  }
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Aligned block(std::vector<uint8_t>(data, data + size));
  void* const model = resparse_open(block.memory, block.size);
  if (model == nullptr) {
    if (resparse_error()[0] == '\0') std::abort();  // a refusal without a reason
    return 0;
  }
  // The record is that of an opened model, so its count of labels is one that its head has.
  const uint32_t labels = static_cast<const Model*>(block.memory)->labels;
  const int32_t ids[kTokens] = {1, 2, 3, 499, 0, 5, 6}, types[kTokens] = {0, 0, 1, 1, 0, 0, 1},
                positions[kTokens] = {0, 1, 2, 3, 0, 1, 2};
  const int64_t starts[] = {0, 4, kTokens};
  std::vector<float> logits(size_t{kTokens} * labels);
  if (resparse_run(model, ids, types, positions, starts, 2, 1, logits.data()) != 0 && resparse_error()[0] == '\0')
    std::abort();
  resparse_close(model);
  return 0;
}
