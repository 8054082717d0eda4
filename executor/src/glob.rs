//! Wildcards of COPY and ADD sources: the rules of Go's `filepath.Match`.
