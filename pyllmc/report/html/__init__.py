"""report.html: the experiment as one page that works from disk, without a network."""
