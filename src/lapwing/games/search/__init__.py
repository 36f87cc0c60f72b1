"""Questions, documents and what finds the documents."""
