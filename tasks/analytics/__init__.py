"""DuckDB over the manifests: the files of `sql/`, bound and typed."""
