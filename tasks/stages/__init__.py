"""What DAGs and verbs call: one entry function per stage of the pipeline."""
