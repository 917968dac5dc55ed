// Python's build tools expect every extension to have this function. The library is loaded by ctypes, and is no module
// that could be imported.

#include "engine.h"

RESPARSE_EXPORT void* PyInit__engine() { return nullptr; }
