doctor() { say "later"; }
