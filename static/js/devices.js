// The devices: the stream reports their runs, a timer updates their readings. A form in use is not replaced.
import { follow } from "./live_part.js";

const isWriting = () => Boolean(document.activeElement?.closest("#devices form"));

follow("devices", { everyMs: 5000, busy: isWriting });
