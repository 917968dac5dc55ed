// What goes wrong here, in words for people.

#pragma once

#include <stdexcept>
#include <string>

namespace resparse {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace resparse
