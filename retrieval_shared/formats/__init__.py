"""The file formats of records, one per file, and what they share (lines); `retrieval_shared.records` is their door."""
