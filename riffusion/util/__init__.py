"""What any room may use: errors, files, tables, figures, names, processes and the Hub."""
