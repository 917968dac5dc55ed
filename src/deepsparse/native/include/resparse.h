/* The native engine from C: a packed model is loaded, token ids go in, logits come out.

   `deepsparse.pack DEPLOYMENT --output model.resparse` packs a deployment folder for the processor that it runs on;
   `deepsparse.pack --flags` prints what a compiler and a linker need. Token ids are those of the deployment's
   tokenizer.json, which the tokenizers of Hugging Face read in C, C++, Go, Java and more.

   Functions that fail return NULL or -1; resparse_error() then says why, in the thread that called. A model may be used
   by several threads at once. The file is mapped, not copied, so that processes share its memory; it must not be changed
   while a model has it open (write another one beside it, and rename). */

#ifndef RESPARSE_H
#define RESPARSE_H

#include <stdint.h>

#if defined(__GNUC__)
#define RESPARSE_API __attribute__((visibility("default")))
#else
#define RESPARSE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct resparse_model resparse_model;

/* Open a packed model. NULL: there is no such file, it is damaged, or packed for another version or processor. */
RESPARSE_API resparse_model* resparse_load(const char* path);

/* Free a model; NULL is ignored. No call with it may be under way. */
RESPARSE_API void resparse_free(resparse_model* model);

/* The number of labels: of logits for each text, or for each token. */
RESPARSE_API int32_t resparse_labels(const resparse_model* model);

/* The name of a label, UTF-8; it lives as long as the model. NULL: there is no such label. */
RESPARSE_API const char* resparse_label(const resparse_model* model, int32_t label);

/* 1: there are logits for each token; 0: for each text. */
RESPARSE_API int32_t resparse_is_token_level(const resparse_model* model);

/* The most tokens that a text may have. */
RESPARSE_API int32_t resparse_longest(const resparse_model* model);

/* Compute the logits of texts without padding, concatenated: text i has the tokens starts[i] to starts[i + 1] - 1.

   ids: of all tokens, special ones included.
   types: which of two texts each token is of, 0 or 1; NULL: all are of the first. Ignored by models without types.
   starts: texts + 1 places; the first is 0.
   threads: that compute at most, the caller's included.
   logits: gets [texts][labels], or [tokens][labels] of a token-level model.

   0, or -1: a text without tokens or with too many, or a token that the model does not have. */
RESPARSE_API int resparse_infer(const resparse_model* model, const int32_t* ids, const int32_t* types,
                                const int64_t* starts, int32_t texts, int32_t threads, float* logits);

/* Why the last call of this thread failed. */
RESPARSE_API const char* resparse_error(void);

#ifdef __cplusplus
}
#endif

#endif
