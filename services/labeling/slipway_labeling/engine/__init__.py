"""Without state: the mathematics of labels, and files of tasks and annotations."""
