// The first page is fetched again when runs, the queue or devices change; cells of running runs come with the stream.
import { follow } from "./live_part.js";

const CURVES_MS = 30000; // the small curves

follow("home", { everyMs: CURVES_MS });
