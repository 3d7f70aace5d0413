"""What was done, by whom, and that nobody changed the record since.

=========  ==============================================================================================
`trail`    the daemon's side: takes records, writes them in order, signs the heads
`chain`    a line and its hash, the files they stand in, torn ends
`reader`   verifies a trail, and tells its last lines
=========  ==============================================================================================
"""
