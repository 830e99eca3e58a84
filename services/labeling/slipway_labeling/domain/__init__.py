"""What labeling is about: projects, tasks, assignments, annotations, annotators."""
