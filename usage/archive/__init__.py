"""Records of months long ago, in Parquet files that any tool reads; sums stay exact without them in the table."""
