"""What a run shows and leaves behind: console summary, HTML page, tables and trace."""
