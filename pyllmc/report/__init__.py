"""Reports: an experiment's tables, charts and README.md, made from its log table alone."""
