"""Vector indexes: one interface, FAISS and Milvus behind it, and where a store keeps its own."""
