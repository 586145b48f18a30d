//! placeholder until the programs land
