// The list of sweeps is fetched again when a run changes its status: a trial has begun or ended.
import { follow } from "./live_part.js";

follow("sweeps");
