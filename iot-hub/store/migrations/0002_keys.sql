-- Content keys wrapped for devices, and the enrolment that a device's sealing key came with.
CREATE TABLE key_wrap (key TEXT NOT NULL, sealing_key TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (key, sealing_key));
CREATE INDEX enrolment_by_device ON enrolment (device, serial);
