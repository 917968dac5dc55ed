/* Classifies texts that are given as token ids: a line of numbers a text, special tokens included.

   cc -std=c99 -o classify classify.c $(deepsparse.pack --flags)
   ./classify model.resparse < ids.txt

   Prints the best label of each text, and all logits. Of a token-level model, a line for each token. */

#include <stdio.h>
#include <stdlib.h>

#include "resparse.h"

/* Room for the tokens of a text, and the end of it: one text at a time is the shortest program; resparse_infer takes
   any number at once. */
static int64_t read_ids(FILE* input, int32_t* ids, int64_t most) {
  int64_t count = 0;
  int next;
  while ((next = fgetc(input)) != EOF && next != '\n') {
    if (next == ' ') continue;
    ungetc(next, input);
    if (count == most || fscanf(input, "%d", &ids[count]) != 1) return -1;
    ++count;
  }
  return next == EOF && count == 0 ? 0 : count;
}

static void print_row(const resparse_model* model, const float* logits) {
  int32_t labels = resparse_labels(model), best = 0, label;
  for (label = 1; label < labels; ++label)
    if (logits[label] > logits[best]) best = label;
  printf("%s", resparse_label(model, best));
  for (label = 0; label < labels; ++label) printf("\t%.9g", logits[label]);
  printf("\n");
}

int main(int count, char** arguments) {
  resparse_model* model;
  int32_t* ids;
  float* logits;
  int64_t starts[2] = {0, 0}, row, rows;
  int status = 0;

  if (count != 2) {
    fprintf(stderr, "usage: classify model.resparse < ids.txt\n");
    return 2;
  }
  model = resparse_load(arguments[1]);
  if (model == NULL) {
    fprintf(stderr, "%s\n", resparse_error());
    return 2;
  }
  rows = resparse_is_token_level(model) ? resparse_longest(model) : 1;
  ids = malloc(sizeof(int32_t) * (size_t)resparse_longest(model));
  logits = malloc(sizeof(float) * (size_t)(rows * resparse_labels(model)));
  while (status == 0 && (starts[1] = read_ids(stdin, ids, resparse_longest(model))) != 0) {
    if (starts[1] < 0) {
      fprintf(stderr, "a line of token ids is wanted, at most %d\n", (int)resparse_longest(model));
      status = 2;
    } else if (resparse_infer(model, ids, NULL, starts, 1, 1, logits) != 0) {
      fprintf(stderr, "%s\n", resparse_error());
      status = 2;
    } else {
      rows = resparse_is_token_level(model) ? starts[1] : 1;
      for (row = 0; row < rows; ++row) print_row(model, logits + row * resparse_labels(model));
    }
  }
  free(logits);
  free(ids);
  resparse_free(model);
  return status;
}
