"""What the benchmark measures: workloads, rows, reports."""
