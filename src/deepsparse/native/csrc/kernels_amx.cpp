// Kernels for AMX with tiles of int8, and for AVX-512 with VBMI2: Intel from Sapphire Rapids on.
//
// Four tiles of sums, for up to 64 tokens, are kept in registers while a group's weights go by, a tile of 16 rows and
// 64 columns at a time. A product of tiles takes 16 cycles; putting back the zeros of the next tile of weights takes
// about 48 of other parts of the processor, and is done meanwhile.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "gelu.h"
#include "isa.h"
#include "kernels.h"
#include "tiles.h"

#ifdef RESPARSE_AMX

// As in kernels_avx512.cpp: no headers below. The tiles' instructions are assembly and need no target.
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512vbmi2,popcnt,fma"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target( \
    "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx512vbmi2,popcnt,fma,prefer-vector-width=512")
#endif

#include <immintrin.h>

namespace resparse {
namespace amx {

#include "avx512.inl"

// Registers: the first are sums, then come two of inputs and two of weights, taken in turns.
constexpr int kInputs = kMostTiles, kWeights = kInputs + 2;

constexpr uint32_t kTileBytes = 1024;  // of weights: 16 quads of columns x 16 rows of the matrix x 4
constexpr uint32_t kRowBytes = 64;

// --- configuration ---

// The tokens that this thread's tiles are configured for; 0 while they are not.
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

// --- where a group's tiles of weights come from ---

// Two tiles of weights in memory; apart from the pointers to them, which can so be kept in registers.
struct alignas(kAlignment) Made {
  uint8_t tiles[2][kTileBytes];
};

// Weights that lie there as tiles do.
class DenseTiles {
 public:
  inline RESPARSE_INLINED DenseTiles(const Packed& weights, uint32_t group, Made& made) : last_(made.tiles[0]) {
    const size_t quads = (weights.columns + 3) / 4, rest = quads % kBlockMasks * kRowBytes;
    from_ = weights.data + group * quads * kRowBytes;
    whole_ = static_cast<uint32_t>(quads / kBlockMasks);
    if (rest == 0) return;
    std::memcpy(last_, from_ + size_t{whole_} * kTileBytes, rest);
    std::memset(last_ + rest, 0, kTileBytes - rest);
  }
  inline RESPARSE_INLINED const uint8_t* at(uint32_t block) const {
    return block < whole_ ? from_ + size_t{block} * kTileBytes : last_;
  }
  inline RESPARSE_INLINED void prepare(uint32_t, uint32_t, uint32_t) const {}

 private:
  const uint8_t* from_;
  uint32_t whole_;
  uint8_t* const last_;  // filled up with zeros
};

// Weights whose zeros are put back, a tile ahead of the products.
class ExpandedTiles {
 public:
  inline RESPARSE_INLINED ExpandedTiles(const Packed& weights, uint32_t group, Made& made)
      : made_(made),
        masks_(weights.masks + size_t{group} * blocks_of(weights.columns) * kBlockMasks),
        non_zeros_(weights.data + weights.starts[group]) {
    prepare(0, 0, kBlockMasks);
  }
  inline RESPARSE_INLINED const uint8_t* at(uint32_t block) const { return made_.tiles[block % 2]; }
  // Rows from `first` on, below `end`, of a block's tile: all are asked for, in their order.
  inline RESPARSE_INLINED void prepare(uint32_t block, uint32_t first, uint32_t end) {
    const uint64_t* const masks = masks_ + size_t{block} * kBlockMasks;
    uint8_t* const tile = made_.tiles[block % 2];
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
  Made& made_;
  const uint64_t* const masks_;
  const uint8_t* non_zeros_;
};

// --- products ---

// use(i) for every i below kCount, as constants.
template <uint32_t kCount, uint32_t kFirst = 0, typename Use>
RESPARSE_INLINE void each(const Use& use) {
  if constexpr (kFirst < kCount) {
    use(std::integral_constant<uint32_t, kFirst>{});
    each<kCount, kFirst + 1>(use);
  }
}

// A group of 16 rows with kTiles tiles of tokens. The last of several tiles is a whole one, too: it begins with tokens
// that are in the one before, whose sums come out the same. So shapes change for less than a tile of tokens alone.
//
// A product that adds to the same sums as the one before waits for it, 52 cycles. So few tokens have their sums several
// times over; blocks are added to these in turns, and in the end they are added up.
template <typename Source, uint32_t kTiles>
class Product {
 public:
  inline RESPARSE_INLINED Product(const Source& source, const uint8_t* x, size_t stride, uint32_t tokens)
      : source_(source),
        x_(x),
        stride_(stride),
        rows_(tokens < kTile ? tokens : kTile),
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
    // One after the other: the last writes anew what it shares with the one before.
    each<kTiles>([&](auto tile) RESPARSE_INLINED { finish<tile>(sums.values + token_of(tile)); });
  }

 private:
  static constexpr uint32_t kTurns = kMostTiles / kTiles;

  inline RESPARSE_INLINED size_t token_of(uint32_t tile) const { return tile + 1 == kTiles ? last_ : tile * kTile; }

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
  inline RESPARSE_INLINED void finish(int32_t (*sums)[kLanes]) const {
    tiles::store<kOfTile>(sums, kRowBytes);
    each<kTurns - 1>([&](auto turn) RESPARSE_INLINED {
      alignas(kAlignment) int32_t more[kTile][kLanes];
      tiles::store<(turn + 1) * kTiles + kOfTile>(more, kRowBytes);
      for (uint32_t row = 0; row < rows_; ++row) store(sums[row], load(sums[row]) + load(more[row]));
    });
  }

  Source source_;
  const uint8_t* const x_;
  const size_t stride_;
  const uint32_t rows_, last_;  // of a tile; and where the last one begins
};

template <typename Source, uint32_t kTiles>
void products(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  Made made;
  Product<Source, kTiles>(Source(weights, group, made), x, stride, tokens)
      .run(blocks_of(weights.columns), offsets, sums);
}

template <typename Source>
void multiply_tiles(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
                    const int32_t* offsets, Sums& sums) {
  static_assert(kMostTiles == 4, "as many cases follow");
  configure(tokens < kTile ? tokens : kTile);
  switch ((tokens + kTile - 1) / kTile) {
    case 1:
      return products<Source, 1>(weights, group, x, stride, tokens, offsets, sums);
    case 2:
      return products<Source, 2>(weights, group, x, stride, tokens, offsets, sums);
    case 3:
      return products<Source, 3>(weights, group, x, stride, tokens, offsets, sums);
    default:
      return products<Source, 4>(weights, group, x, stride, tokens, offsets, sums);
  }
}

void multiply(const Packed& weights, uint32_t group, const uint8_t* x, size_t stride, uint32_t tokens,
              const int32_t* offsets, Sums& sums) {
  switch (weights.form) {
    case kDense:
      return multiply_tiles<DenseTiles>(weights, group, x, stride, tokens, offsets, sums);
    case kMask64:
      return multiply_tiles<ExpandedTiles>(weights, group, x, stride, tokens, offsets, sums);
    default:
      return multiply_slots(weights, group, x, stride, tokens, offsets, sums);
  }
}

}  // namespace amx

extern const Kernels kAmxKernels;
constexpr Kernels kAmxKernels = amx::table(kAmx, kMostTiles, amx::release);

}  // namespace resparse

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
