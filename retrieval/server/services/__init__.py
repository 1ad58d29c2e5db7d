"""Services that the routes call: queries, uploads, thumbnails, indexing."""
