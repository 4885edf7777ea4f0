// The table of runs is fetched again, with its filters, at each "changed" of its topic.
import { follow } from "./live_part.js";

follow("runs");
