"""Vector indexes: one interface for FAISS and Milvus, and the storage of a store's index."""
