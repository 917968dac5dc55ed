// Kernels for AMX with tiles of int8, and for AVX-512 with VBMI2: Intel from Sapphire Rapids on.
//
// Four tiles of sums, for up to 64 tokens, stay in registers while a panel's weights are read, a tile of 16 rows and 64
// columns at a time. A product of tiles takes 16 cycles; expanding the next tile of weights takes about 48 of other
// execution units, and overlaps with it.

#include "instruction_sets.h"
#include "kernels/x86/amx_tiles.h"

#ifdef RESPARSE_AMX

// The tiles' instructions are assembly and need no target.
#define RESPARSE_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512vbmi2,popcnt,fma"
#include "kernels/target_begin.inl"

#include <immintrin.h>

namespace resparse {
namespace amx {

#include "kernels/x86/avx512_common.inl"

// Tile registers: first the sums, then two of inputs and two of weights, used alternately.
constexpr int kInputs = kMaxTiles, kWeights = kInputs + 2;

constexpr uint32_t kWeightTileBytes = 1024;  // 16 quads of columns x 16 rows of the panel x 4
constexpr uint32_t kRowBytes = 64;

// --- configuration ---

// Rows of the tiles of inputs that this thread has configured; 0 while it has not.
thread_local uint32_t configured = 0;

void configure(uint32_t tokens) {
  if (configured == tokens) return;
  TileShapes shapes;
  for (int i = 0; i < kWeights + 2; ++i) {
    shapes.row_bytes[i] = kRowBytes;
    shapes.rows[i] = static_cast<uint8_t>(i < kWeights ? tokens : kBlockMasks);
  }
  tiles::configure(shapes);
  configured = tokens;
}

void release() {
  if (configured == 0) return;
  tiles::release();
  configured = 0;
}

// --- sources of a panel's tiles of weights ---

// Two tiles of weights in memory; separate from the sources, so that their pointers can stay in registers.
struct alignas(kAlignment) TileBuffers {
  uint8_t tiles[2][kWeightTileBytes];
};

// kDense, which is laid out as tiles are.
class DenseTiles {
 public:
  inline RESPARSE_INLINED DenseTiles(const PackedMatrix& weights, uint32_t panel, TileBuffers& buffers)
      : last_(buffers.tiles[0]) {
    const size_t quads = divide_up(weights.columns, 4), rest = quads % kBlockMasks * kRowBytes;
    from_ = weights.data + panel * quads * kRowBytes;
    whole_ = static_cast<uint32_t>(quads / kBlockMasks);
    if (rest == 0) return;
    std::memcpy(last_, from_ + size_t{whole_} * kWeightTileBytes, rest);
    std::memset(last_ + rest, 0, kWeightTileBytes - rest);
  }
  inline RESPARSE_INLINED const uint8_t* at(uint32_t block) const {
    return block < whole_ ? from_ + size_t{block} * kWeightTileBytes : last_;
  }
  inline RESPARSE_INLINED void prepare(uint32_t, uint32_t, uint32_t) const {}

 private:
  const uint8_t* from_;
  uint32_t whole_;
  uint8_t* const last_;  // padded with zeros
};

// kMask64, whose zeros are put back one tile ahead of the products.
class ExpandedTiles {
 public:
  inline RESPARSE_INLINED ExpandedTiles(const PackedMatrix& weights, uint32_t panel, TileBuffers& buffers)
      : buffers_(buffers),
        masks_(weights.masks + size_t{panel} * blocks_of(weights.columns) * kBlockMasks),
        non_zeros_(weights.data + weights.starts[panel]) {
    prepare(0, 0, kBlockMasks);
  }
  inline RESPARSE_INLINED const uint8_t* at(uint32_t block) const { return buffers_.tiles[block % 2]; }
  // Expands the rows from `first` to `end` - 1 of a block's tile; must be called for all of them, in order.
  inline RESPARSE_INLINED void prepare(uint32_t block, uint32_t first, uint32_t end) {
    const uint64_t* const masks = masks_ + size_t{block} * kBlockMasks;
    uint8_t* const tile = buffers_.tiles[block % 2];
    if (first == 0) {
      _mm_prefetch(reinterpret_cast<const char*>(masks) + kAhead, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(masks) + kAhead + 64, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(non_zeros_) + kAhead, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(non_zeros_) + kAhead + 64, _MM_HINT_T0);
    }
#pragma GCC unroll 16
    for (uint32_t row = first; row < end; ++row) {
      _mm512_store_si512(tile + row * kRowBytes, _mm512_maskz_expandloadu_epi8(masks[row], non_zeros_));
      non_zeros_ += _mm_popcnt_u64(masks[row]);
    }
  }

 private:
  TileBuffers& buffers_;
  const uint64_t* const masks_;
  const uint8_t* non_zeros_;
};

// --- products ---

// A panel with kTiles tiles of tokens. The last of several tiles is a whole one, too: it overlaps with the tile before,
// and computes the same sums again. So tiles are only reconfigured for less than one tile of tokens.
//
// A product that adds to the same sums as the one before has to wait for it, 52 cycles. So with few tiles of tokens
// there are several tiles of sums for each; blocks are added to them alternately, and they are added up in the end.
template <typename Source, uint32_t kTiles>
class Product {
 public:
  inline RESPARSE_INLINED Product(const Source& source, const uint8_t* x, size_t stride, uint32_t tokens)
      : source_(source),
        x_(x),
        stride_(stride),
        rows_(tokens < kTileTokens ? tokens : kTileTokens),
        last_(tokens - rows_) {}

  inline RESPARSE_INLINED void run(uint32_t blocks, const int32_t* offsets, Sums& sums) {
    each<kTiles * kTurns>([&](auto tile) RESPARSE_INLINED {
      if (tile < kTiles && offsets != nullptr)
        tiles::load<tile>(offsets, 0);
      else
        tiles::zero<tile>();
    });
    constexpr uint32_t kAtOnce = kTurns < 2 ? 2 : kTurns;
    for (uint32_t first = 0; first < blocks; first += kAtOnce)
      each<kAtOnce>([&](auto turn) RESPARSE_INLINED {
        if (first + turn < blocks) add<turn>(first + turn, first + turn + 1 < blocks);
      });
    // In order: the last tile overwrites what it shares with the one before.
    each<kTiles>([&](auto tile) RESPARSE_INLINED { finish<tile>(sums.values + token_of(tile)); });
  }

 private:
  static constexpr uint32_t kTurns = kMaxTiles / kTiles;

  inline RESPARSE_INLINED size_t token_of(uint32_t tile) const {
    return tile + 1 == kTiles ? last_ : tile * kTileTokens;
  }

  template <uint32_t kTurn>
  inline RESPARSE_INLINED void add(uint32_t block, bool has_next) {
    constexpr int kOfWeights = kWeights + kTurn % 2;
    const uint8_t* const from = x_ + size_t{block} * kBlock;
    tiles::load<kOfWeights>(source_.at(block), kRowBytes);
    each<kTiles>([&](auto tile) RESPARSE_INLINED {
      constexpr int kOfInputs = kInputs + (kTurn * kTiles + tile) % 2;
      tiles::load<kOfInputs>(from + token_of(tile) * stride_, stride_);
      if (has_next) source_.prepare(block + 1, kBlockMasks * tile / kTiles, kBlockMasks * (tile + 1) / kTiles);
      tiles::add_products<kTurn % kTurns * kTiles + tile, kOfInputs, kOfWeights>();
    });
  }

  template <uint32_t kOfTile>
  inline RESPARSE_INLINED void finish(int32_t (*sums)[kPanelRows]) const {
    tiles::store<kOfTile>(sums, kRowBytes);
    each<kTurns - 1>([&](auto turn) RESPARSE_INLINED {
      alignas(kAlignment) int32_t more[kTileTokens][kPanelRows];
      tiles::store<(turn + 1) * kTiles + kOfTile>(more, kRowBytes);
      for (uint32_t row = 0; row < rows_; ++row) store(sums[row], load(sums[row]) + load(more[row]));
    });
  }

  Source source_;
  const uint8_t* const x_;
  const size_t stride_;
  const uint32_t rows_, last_;  // tokens of a tile, and the first token of the last tile
};

template <typename Source, uint32_t kTiles>
void products(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  TileBuffers buffers;
  Product<Source, kTiles>(Source(weights, panel, buffers), x, stride, tokens)
      .run(blocks_of(weights.columns), offsets, sums);
}

template <typename Source>
void multiply_tiles(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
                    const int32_t* offsets, Sums& sums) {
  static_assert(kMaxTiles == 4, "one case for each number of tiles");
  configure(tokens < kTileTokens ? tokens : kTileTokens);
  switch (divide_up(tokens, kTileTokens)) {
    case 1:
      return products<Source, 1>(weights, panel, x, stride, tokens, offsets, sums);
    case 2:
      return products<Source, 2>(weights, panel, x, stride, tokens, offsets, sums);
    case 3:
      return products<Source, 3>(weights, panel, x, stride, tokens, offsets, sums);
    default:
      return products<Source, 4>(weights, panel, x, stride, tokens, offsets, sums);
  }
}

void multiply(const PackedMatrix& weights, uint32_t panel, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  switch (weights.format) {
    case kDense:
      return multiply_tiles<DenseTiles>(weights, panel, x, stride, tokens, offsets, sums);
    case kMask64:
      return multiply_tiles<ExpandedTiles>(weights, panel, x, stride, tokens, offsets, sums);
    default:
      return multiply_slots(weights, panel, x, stride, tokens, offsets, sums);
  }
}

}  // namespace amx

extern const Kernels kAmxKernels;
constexpr Kernels kAmxKernels = amx::table(kMaxTiles, amx::release);

}  // namespace resparse

#include "kernels/target_end.inl"

#endif
