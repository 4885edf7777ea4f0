// The devices: the stream reports their runs, a timer updates their readings.
import { follow } from "./live_part.js";

follow("devices", { everyMs: 5000 });
