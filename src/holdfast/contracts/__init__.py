"""What an answer must look like: check, repair, stream."""
