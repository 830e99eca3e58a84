"""The verbs: what people ask (`endpoints`), what the mesh is told (`routing`), what pods do (`following`)."""
