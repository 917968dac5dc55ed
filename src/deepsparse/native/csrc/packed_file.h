// The layout of a file that `deepsparse.pack` writes: what a caller without Python needs, and a packed model.

#pragma once

#include <cstdint>

namespace resparse {

constexpr uint64_t kFileMagic = 0x3164656b63617072;  // "rpacked1"
constexpr uint32_t kFileVersion = 1;
constexpr uint64_t kFileAlignment = 4096;
constexpr int32_t kAllCounted = -1;

// At the start of the file. Places are in bytes from there; that of the model is a multiple of kFileAlignment.
struct PackedFile {
  uint64_t magic;
  uint32_t version;
  uint32_t labels;
  // Positions: with kAllCounted the indices of the tokens. Else tokens are counted, but those of the id `padding`: the
  // first has the position offset + 1, those that are not counted have `offset`.
  int32_t padding, offset;
  uint32_t takes_types;
  uint32_t longest;            // tokens of a text, at most
  uint64_t names, names_size;  // of the labels, each ended by a zero
  uint64_t model, model_size;
  uint64_t sums[2];  // of what follows this record: of its 64-bit words, and of each times its number from 1, modulo 2^64
};

}  // namespace resparse
