// Ends what target_begin.inl has begun.

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#undef RESPARSE_PUSH
#undef RESPARSE_PRAGMA
#undef RESPARSE_TARGET
