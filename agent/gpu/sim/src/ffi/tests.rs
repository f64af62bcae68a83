use nvml_wrapper_sys::bindings as nvml;

use super::types;

/// Compares size, alignment and each field's offset with the published bindings.
macro_rules! same_layout {
    ($ours:ty, $theirs:ty, $($field:ident = $their_field:ident),+ $(,)?) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
        assert_eq!(align_of::<$ours>(), align_of::<$theirs>(), stringify!($ours));
        $(assert_eq!(
            std::mem::offset_of!($ours, $field),
            std::mem::offset_of!($theirs, $their_field),
            "{}.{}", stringify!($ours), stringify!($field)
        );)+
    };
}

#[test]
fn structs_are_laid_out_as_in_the_published_bindings() {
    same_layout!(
        types::PciInfo,
        nvml::nvmlPciInfo_t,
        bus_id_legacy = busIdLegacy,
        domain = domain,
        bus = bus,
        device = device,
        pci_device_id = pciDeviceId,
        pci_subsystem_id = pciSubSystemId,
        bus_id = busId
    );
    same_layout!(
        types::Memory,
        nvml::nvmlMemory_t,
        total = total,
        free = free,
        used = used
    );
    same_layout!(
        types::MemoryV2,
        nvml::nvmlMemory_v2_t,
        version = version,
        total = total,
        reserved = reserved,
        free = free,
        used = used
    );
    same_layout!(
        types::Bar1Memory,
        nvml::nvmlBAR1Memory_t,
        total = bar1Total,
        free = bar1Free,
        used = bar1Used
    );
    same_layout!(
        types::Utilization,
        nvml::nvmlUtilization_t,
        gpu = gpu,
        memory = memory
    );
    same_layout!(
        types::ProcessInfo,
        nvml::nvmlProcessInfo_t,
        pid = pid,
        used_gpu_memory = usedGpuMemory,
        gpu_instance_id = gpuInstanceId,
        compute_instance_id = computeInstanceId
    );
    same_layout!(
        types::ProcessUtilizationSample,
        nvml::nvmlProcessUtilizationSample_t,
        pid = pid,
        timestamp = timeStamp,
        sm = smUtil,
        memory = memUtil,
        encoder = encUtil,
        decoder = decUtil
    );
    same_layout!(
        types::EccErrorCounts,
        nvml::nvmlEccErrorCounts_t,
        l1_cache = l1Cache,
        l2_cache = l2Cache,
        device_memory = deviceMemory,
        register_file = registerFile
    );
    same_layout!(
        types::RowRemapperHistogram,
        nvml::nvmlRowRemapperHistogramValues_t,
        max = max,
        high = high,
        partial = partial,
        low = low,
        none = none
    );
    same_layout!(
        types::TemperatureV1,
        nvml::nvmlTemperature_v1_t,
        version = version,
        sensor = sensorType,
        temperature = temperature
    );
    same_layout!(
        types::FieldValue,
        nvml::nvmlFieldValue_t,
        field_id = fieldId,
        scope_id = scopeId,
        timestamp = timestamp,
        latency_us = latencyUsec,
        value_type = valueType,
        ret = nvmlReturn,
        value = value
    );
    same_layout!(
        types::EventData,
        nvml::nvmlEventData_t,
        device = device,
        event_type = eventType,
        event_data = eventData,
        gpu_instance_id = gpuInstanceId,
        compute_instance_id = computeInstanceId
    );
}

#[test]
fn return_codes_are_nvmls() {
    for (ours, theirs) in [
        (
            types::UNINITIALIZED,
            nvml::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED,
        ),
        (
            types::INVALID_ARGUMENT,
            nvml::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT,
        ),
        (
            types::NOT_SUPPORTED,
            nvml::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED,
        ),
        (
            types::NO_PERMISSION,
            nvml::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION,
        ),
        (types::NOT_FOUND, nvml::nvmlReturn_enum_NVML_ERROR_NOT_FOUND),
        (
            types::INSUFFICIENT_SIZE,
            nvml::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE,
        ),
        (
            types::DRIVER_NOT_LOADED,
            nvml::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED,
        ),
        (types::TIMEOUT, nvml::nvmlReturn_enum_NVML_ERROR_TIMEOUT),
        (
            types::GPU_IS_LOST,
            nvml::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST,
        ),
        (
            types::RESET_REQUIRED,
            nvml::nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED,
        ),
        (
            types::VERSION_MISMATCH,
            nvml::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        ),
        (types::UNKNOWN, nvml::nvmlReturn_enum_NVML_ERROR_UNKNOWN),
    ] {
        assert_eq!(ours, theirs);
    }
}
