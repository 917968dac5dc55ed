// Exceptions as messages: what the functions that C and Python call have in common.

#pragma once

#include <exception>
#include <string>

namespace resparse {

// The message of the last error in this thread.
inline thread_local std::string last_error;

// The result of `body`; where it throws, `otherwise`, and the message is kept for resparse_error().
template <typename Result, typename Body>
Result guarded(Result otherwise, const Body& body) {
  try {
    return body();
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  return otherwise;
}

}  // namespace resparse
