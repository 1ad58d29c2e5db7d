"""What routes call: queries, uploads, thumbnails, indexing."""
