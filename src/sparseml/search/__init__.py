"""`sparseml search`: trains with several settings, each in a process of its own, and keeps the best one."""
