"""The command `nnunet-archs`, one module a subcommand."""
