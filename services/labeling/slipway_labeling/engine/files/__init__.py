"""Files of tasks and annotations: JSONL, COCO, Label Studio. Pure functions; no name in them is opened."""
