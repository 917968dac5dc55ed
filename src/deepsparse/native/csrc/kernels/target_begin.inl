// Compiles what follows, up to target_end.inl, for the instructions in RESPARSE_TARGET, whatever the compiler's flags.
//
// Nothing but intrinsics may be included between the two: inline functions of other headers would be compiled for these
// instructions, and the linker might keep that version for code that runs on every processor.

#ifndef RESPARSE_TARGET
#error "RESPARSE_TARGET must be defined, as a string that the compiler's target attribute takes"
#endif

#define RESPARSE_PRAGMA(tokens) _Pragma(#tokens)
#if defined(__clang__)
#define RESPARSE_PUSH(target_) \
  RESPARSE_PRAGMA(clang attribute push(__attribute__((target(target_))), apply_to = function))
#else
#define RESPARSE_PUSH(target_) RESPARSE_PRAGMA(GCC push_options) RESPARSE_PRAGMA(GCC target target_)
#endif

RESPARSE_PUSH(RESPARSE_TARGET)
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=512")
#endif
